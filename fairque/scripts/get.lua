#!lua flags=no-writes
-- get: everything known of one task.
--   arguments: member
-- Returns its state, its score there, its record, its run (field, value, …), and the ids of what it depends on (the
-- first thousand); nothing for an unknown task.
--- @include "includes/shard"
--- @include "includes/locate"

local member = ARGV[2]
local state, score = locate(member)
local record = redis.call('GET', root .. 'task:' .. member)
if not state or not record then
  return false
end
return {
  state, score, record, redis.call('HGETALL', root .. 'run:' .. member),
  redis.call('ZRANGE', root .. 'blockers:' .. member, 0, 999),
}
