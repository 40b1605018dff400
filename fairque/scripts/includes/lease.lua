--- @include "includes/charge"
--- @include "includes/cost"
--- @include "includes/fence"
local SHORTEST_RUN = 0.001 -- seconds that the shortest attempt costs

-- What the attempt has used until `till` goes on its user's account. Returns the seconds.
local function settle_attempt(user, run, till)
  local ran = math.max(0, till - (run.started_at or till))
  local seconds = math.max(ran / 1000, SHORTEST_RUN)
  user.in_flight = user.in_flight - 1
  user.busy_ms = user.busy_ms + ran
  if run.charged then
    correct(user, run, seconds)
  end
  return seconds
end

-- A completed attempt tells how long its function takes.
local function learn_from(user, member, run, seconds)
  if run.charged then
    learn(user, function_of(redis.call('GETRANGE', root .. 'task:' .. member, 0, 255)), seconds)
  end
end

-- End the lease of an attempt that was checked, and is not the task's last.
local function end_lease(user, member, run, till)
  redis.call('ZREM', root .. 'leases', member)
  local seconds = settle_attempt(user, run, till or now)
  if run.charged then
    redis.call('HDEL', root .. 'run:' .. member, 'charged', 'weight')
  end
  return seconds
end

-- Give a task back to its lane, at the place it had.
local function return_to_lane(user, member, run)
  local _, id = parts_of(member)
  put_in_lane(user, run.group or '', run.place, id)
end
