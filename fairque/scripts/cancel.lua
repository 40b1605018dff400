#!lua flags=allow-oom
-- cancel: any live state → CANCELED. A running attempt learns it at its next heartbeat.
--   options: retention
--   arguments: member
-- Returns the state the task has now.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/end_task"
--- @include "includes/locate"

local member = ARGV[2]
local name, id = parts_of(member)
local state, _, group = locate(member)
if not state then
  return unknown_task(member)
end
if state == 'FINISHED' or state == 'FAILED' or state == 'CANCELED' then
  return state
end
local user = load_user(name)
if state == 'QUEUED' then
  take_out_of_lane(user, group, id)
elseif state == 'SCHEDULED' then
  redis.call('ZREM', root .. 'scheduled', member)
  user.scheduled = user.scheduled - 1
else
  end_lease(user, member, attempt_of(member))
end
end_task(user, member, 'canceled')
settle_users()
count('canceled', 1)
return 'CANCELED'
