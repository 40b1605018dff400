#!lua flags=allow-oom
-- mend_shard: repairs what the shard keeps once, and removes keys that no script could read or would ever remove.
--   options: balance (the totals, too), last_ms (for what should expire and does not)
--   arguments: kind (wrong, lasting or releasing), name for each key, or entry of `releasing`, that is to go
-- Returns how many things were mended.
--- @include "includes/shard"
--- @include "includes/repair_shard"
--- @include "includes/key_types"

local mended = 0

local function done(number)
  mended = mended + number
end

local go = {
  wrong = function(name)
    return has_wrong_type(name) and redis.call('UNLINK', root .. name) or 0
  end,
  lasting = function(name)
    return redis.call('PEXPIRE', root .. name, opts.last_ms, 'NX')
  end,
  releasing = function(member)
    local has_dependents = redis.call('EXISTS', root .. 'dependents:' .. member) == 1
    return has_dependents and 0 or redis.call('ZREM', root .. 'releasing', member)
  end,
}
for i = 2, #ARGV, 2 do
  done(go[ARGV[i]](ARGV[i + 1]))
end
if ARGV[2] then
  return mended -- the rest may only be looked at once these are gone
end

for _, found in ipairs(garbage()) do
  done(redis.call('HDEL', root .. found[1], found[2]))
end
if has_lost_policies() then
  done(redis.call('HDEL', root .. 'settings', 'digest')) -- the next client with a configuration publishes it again
end
if redis.call('LLEN', root .. 'wake') > 1 then
  redis.call('LTRIM', root .. 'wake', 0, 0)
  done(1)
end
local difference = opts.balance and surplus() or 0
if difference ~= 0 then
  -- What came and is neither there nor ended is lost; what is there has come.
  redis.call('HINCRBY', root .. 'stats', difference > 0 and 'lost' or 'pushed', math.abs(difference))
  done(1)
end
return mended
