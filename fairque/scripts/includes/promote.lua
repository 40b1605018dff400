--- @include "includes/stored"
--- @include "includes/in_lane"
--- @include "includes/lost"
-- Move due tasks, at most `limit`, from `scheduled` to their lanes, each at the place of its due time.
local function promote_due(limit)
  local due = redis.call('ZRANGEBYSCORE', root .. 'scheduled', '-inf', now_us, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #due, 2 do
    local member = due[i]
    local name, id = parts_of(member)
    local user = load_user(name)
    local header = stored_header(member)
    redis.call('ZREM', root .. 'scheduled', member)
    user.scheduled = user.scheduled - 1
    if header then
      put_in_lane(user, group_of(header), place_of(tonumber(due[i + 1]), priority_of(header)), id)
    else
      drop_lost(user, member)
    end
  end
end

-- Let users back whose rate allows a task again, at most `limit`.
local function promote_throttled(limit)
  local due = redis.call('ZRANGEBYSCORE', root .. 'throttled', '-inf', now, 'LIMIT', 0, limit)
  for _, name in ipairs(due) do
    load_user(name)
  end
end
