#!lua flags=allow-oom
-- cancel: any live state → CANCELED. A running attempt learns it at its next heartbeat; of the tasks that depend
-- on it, those go with it whose policy says so.
--   options: retention, cascade (all that is downstream goes with it; also of a task that failed or was canceled)
--   arguments: member
-- Returns the state the task has now.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/end_task"
--- @include "includes/release"
--- @include "includes/locate"

local member = ARGV[2]
local name, id = parts_of(member)
local state, _, group = locate(member)
if not state then
  return unknown_task(member)
end
if state == 'FINISHED' then
  return state
end
local user = load_user(name)
if opts.cascade then
  redis.call('HSET', root .. 'run:' .. member, 'spread', 'all')
end
if state == 'FAILED' or state == 'CANCELED' then
  if opts.cascade then
    ended[1] = member
    release_dependents()
    settle_users()
  end
  return state
end
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
end_task(user, member, 'canceled')
release_dependents()
settle_users()
count('canceled', 1)
return 'CANCELED'
