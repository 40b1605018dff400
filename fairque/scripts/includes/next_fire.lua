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
