#!lua
-- xcom_push: stores a value for other tasks of the user, in place of the one before.
--   options: ttl_ms, sweep (how many expired entries to remove), fence (member, attempt, place of the attempt that
--   writes; absent where none does)
--   arguments: user, namespace, key (escaped), value
-- Returns when it expires (ms). Refused with LEASELOST.
--- @include "includes/shard"
--- @include "includes/xcom_write"

local refused = refusal()
if refused then
  return refused
end
local name, value = ARGV[4], ARGV[5]
local expires = now + opts.ttl_ms
redis.call('SET', value_key(name), value, 'PXAT', expires)
redis.call('ZADD', index, expires, name)
settle_index()
return expires
