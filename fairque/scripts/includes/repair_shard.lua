--- @include "includes/waiting"
-- What repair thinks of what the shard keeps once.
local TOTALS_IN, TOTALS_OUT = { 'pushed', 'requeued' }, { 'finished', 'failed', 'canceled', 'lost' }

local function is_number(text)
  local number = tonumber(text)
  return number ~= nil and number == number and math.abs(number) < math.huge
end

-- Fields of these that no script could read, by key.
local function garbage()
  local found = {}
  for _, key in ipairs({ 'stats', 'clock' }) do
    local fields = redis.call('HGETALL', root .. key)
    for i = 1, #fields, 2 do
      local number = is_number(fields[i + 1]) and tonumber(fields[i + 1])
      if not number or (fields[i] ~= 'floor' and number % 1 ~= 0) then
        found[#found + 1] = { key, fields[i] }
      end
    end
  end
  local default = redis.call('HGET', root .. 'settings', 'default')
  local readable, layer = pcall(cjson.decode, default or '{}')
  if not readable or type(layer) ~= 'table' then
    found.blocks = true
    found[#found + 1] = { 'settings', 'default' }
    found[#found + 1] = { 'settings', 'digest' } -- so that the next client with a configuration publishes it again
  end
  return found
end

-- Users that the configuration names, and whose policy from it is gone: no client would publish it again.
local function has_lost_policies()
  if redis.call('HEXISTS', root .. 'settings', 'digest') == 0 then
    return false
  end
  for _, name in ipairs(redis.call('SMEMBERS', root .. 'configured')) do -- as many as a configuration names
    if redis.call('HEXISTS', root .. 'policy:' .. name, 'configured') == 0 then
      return true
    end
  end
  return false
end

-- By how much the totals say that more tasks are live than the users have.
local function surplus()
  local live = 0
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', root .. 'users', 0, 0)) do
    live = live + (tonumber(redis.call('HGET', root .. 'user:' .. name, 'live') or 0) or 0)
  end
  return queue_waiting() + redis.call('ZCARD', root .. 'leases') - live
end
