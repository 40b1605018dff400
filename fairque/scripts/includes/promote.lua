--- @include "includes/record"
--- @include "includes/lane"
--- @include "includes/users"
-- Move due tasks, at most `limit`, from `scheduled` to their lanes, each at the place of its due time.
local function promote_due(limit)
  local due = redis.call('ZRANGEBYSCORE', root .. 'scheduled', '-inf', now_us, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #due, 2 do
    local member = due[i]
    local name, id = parts_of(member)
    local user = load_user(name)
    local record = redis.call('GET', root .. 'task:' .. member)
    redis.call('ZREM', root .. 'scheduled', member)
    if record then
      local place = place_of(tonumber(due[i + 1]), priority_of(header_of(record)))
      redis.call('ZADD', root .. 'lane:' .. name, place, id)
    else
      drop_lost(user, member)
    end
  end
  return #due / 2
end
