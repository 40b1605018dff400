-- A fire time as it is stored; what is none counts as absent.
local function time_in(text)
  return string.match(text or '', '^%d+$') or ''
end

local function forget_schedule(member)
  redis.call('ZREM', root .. 'schedules', member)
  redis.call('ZREM', root .. 'schedule_index', member)
end

-- A schedule fires next at `fire`, and is due then or a little later, by its jitter (milliseconds as text; both are empty
-- for one that does not fire any more).
local function set_next_fire(member, fire, due)
  if fire == '' then
    redis.call('HDEL', root .. 'schedule:' .. member, 'fire')
    redis.call('ZREM', root .. 'schedules', member)
  else
    redis.call('HSET', root .. 'schedule:' .. member, 'fire', fire)
    redis.call('ZADD', root .. 'schedules', due, member)
  end
end
