-- The last attempt of a task, as the claim wrote it down. `charged` is there where tasks cost the time they run.
local function attempt_of(member)
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'place', 'started_at', 'charged', 'group')
  return {
    member = member,
    number = run[1],
    place = run[2],
    started_at = tonumber(run[3]),
    charged = tonumber(run[4]),
    group = run[5] or nil, -- nil where the user had no groups when the attempt began
  }
end

-- The fence. An attempt is known by its number and its place; the place tells apart two lives of one task id.
local function is_attempt(run, number, place)
  return run.number == number and run.place == place
end

local function is_leased(member)
  return redis.call('ZSCORE', root .. 'leases', member) ~= false
end
