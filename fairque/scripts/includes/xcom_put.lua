--- @include "includes/xcom_write"
-- Store a value in place of the one before. Returns when it expires (ms), or the refusal.
local function put(name, value)
  local refused = refusal()
  if refused then
    return refused
  end
  local expires = now + opts.ttl_ms
  redis.call('SET', value_key(name), value, 'PXAT', expires)
  redis.call('ZADD', index, expires, name)
  settle_index()
  return expires
end
