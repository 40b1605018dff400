#!lua flags=no-writes
-- get: everything known of one task.
--   arguments: member
-- Returns its state, its score there, its record and its run (field, value, …); nothing for an unknown task.
--- @include "includes/shard"
--- @include "includes/locate"

local member = ARGV[2]
local state, score = locate(member)
local record = redis.call('GET', root .. 'task:' .. member)
if not state or not record then
  return false
end
return { state, score, record, redis.call('HGETALL', root .. 'run:' .. member) }
