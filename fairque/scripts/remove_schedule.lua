#!lua flags=allow-oom
-- remove_schedule: forgets a schedule. Tasks that it has pushed stay.
--   arguments: its member
-- Returns whether it was there.
--- @include "includes/shard"

redis.call('ZREM', root .. 'schedules', ARGV[2])
redis.call('ZREM', root .. 'schedule_index', ARGV[2])
return redis.call('UNLINK', root .. 'schedule:' .. ARGV[2])
