-- The fence. An attempt is known by its number and its place; the place tells apart two lives of one task id.
local function is_attempt(member, attempt, place)
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'place')
  return run[1] == attempt and run[2] == place
end

local function is_leased(member)
  return redis.call('ZSCORE', root .. 'leases', member) ~= false
end

-- End the lease of an attempt that was checked.
local function end_lease(user, member)
  redis.call('ZREM', root .. 'leases', member)
  user.in_flight = user.in_flight - 1
end

-- Give a task back to its lane, at the place it had.
local function return_to_lane(member, place)
  local name, id = parts_of(member)
  redis.call('ZADD', root .. 'lane:' .. name, place, id)
end
