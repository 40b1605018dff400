-- Ticks: the time in microseconds, made strictly increasing, so that tasks pushed within one instant keep
-- their order, and a clock that steps back after a failover does no harm.
local last_tick

local function next_tick()
  last_tick = last_tick or tonumber(redis.call('HGET', root .. 'clock', 'tick')) or 0
  last_tick = math.max(now_us, last_tick + 1)
  return last_tick
end

local function save_tick()
  if last_tick then
    redis.call('HSET', root .. 'clock', 'tick', last_tick)
  end
end
