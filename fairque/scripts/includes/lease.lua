--- @include "includes/account"
--- @include "includes/in_lane"
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
  put_in_lane(user, run.group or '', place_in_claim(run.claim), id)
end
