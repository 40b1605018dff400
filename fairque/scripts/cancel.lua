#!lua flags=allow-oom
-- cancel: any live state → CANCELED, for a batch. A running attempt learns it at its next heartbeat; of the tasks
-- that depend on these, those go with them whose policy says so.
--   options: ageing_us, retention, cascade (all that is downstream goes too; also of tasks that failed or were
--   canceled before)
--   arguments: member, …
-- Returns the state that each has now; false for an unknown one.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/end_task"
--- @include "includes/dependencies"
--- @include "includes/release"
--- @include "includes/locate"

local canceled = 0

local function take_out(user, member, state, group)
  local _, id = parts_of(member)
  if state == 'QUEUED' then
    take_out_of_lane(user, group, id)
  elseif state == 'SCHEDULED' then
    redis.call('ZREM', root .. 'scheduled', member)
    user.scheduled = user.scheduled - 1
  elseif state == 'DEFERRED' then
    undefer(user, member)
  else
    end_lease(user, member, attempt_of(member))
  end
end

local function cancel(member)
  local state, _, group = locate(member)
  if not state or state == 'FINISHED' then
    return state or false
  end
  if opts.cascade then
    redis.call('HSET', root .. 'run:' .. member, 'spread', 'all')
  end
  local user = load_user((parts_of(member)))
  if state == 'FAILED' or state == 'CANCELED' then
    if opts.cascade then
      ended[#ended + 1] = member
    end
    return state
  end
  take_out(user, member, state, group)
  end_task(user, member, 'canceled')
  canceled = canceled + 1
  return 'CANCELED'
end

local states = {}
for i = 2, #ARGV do
  states[i - 1] = cancel(ARGV[i])
end
release_dependents()
settle_users()
count('canceled', canceled)
return states
