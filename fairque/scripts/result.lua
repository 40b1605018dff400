#!lua flags=no-writes
-- result: what became of one task, without its record.
--   arguments: member
-- Returns its state and then: the result if FINISHED (false once it expired), failure type and error if FAILED.
--- @include "includes/shard"
--- @include "includes/locate"

local member = ARGV[2]
local state = locate(member)
if not state then
  return unknown_task(member)
end
if state == 'FINISHED' then
  return { state, redis.call('GET', root .. 'result:' .. member) }
end
if state == 'FAILED' then
  return { state, unpack(redis.call('HMGET', root .. 'run:' .. member, 'failure_type', 'error')) }
end
return { state }
