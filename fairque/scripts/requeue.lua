#!lua
-- requeue: FAILED → QUEUED, out of the dead letter queue. Retries begin anew; the history stays.
--   options: ageing_us
--   arguments: member
-- Returns the state the task had; only FAILED is moved.
--- @include "includes/shard"
--- @include "includes/tick"
--- @include "includes/lane"
--- @include "includes/in_lane"
--- @include "includes/locate"

local member = ARGV[2]
local name, id = parts_of(member)
local state = locate(member)
local header = stored_header(member)
if not state or not header then
  return unknown_task(member)
end
if state ~= 'FAILED' then
  return state
end
local user = load_user(name)
redis.call('ZREM', root .. 'failed', member)
redis.call(
  'HDEL', root .. 'run:' .. member,
  'failures', 'crashes', 'failure_type', 'error', 'finished_at', 'spread'
)
put_in_lane(user, group_of(header), place_of(next_tick(), priority_of(header)), id)
redis.call('HINCRBY', root .. 'user:' .. name, 'failed', -1)
save_tick()
user.live = user.live + 1
settle_users()
wake()
count('requeued', 1)
return state
