#!lua flags=allow-oom
-- remove_schedule: forgets a schedule. Tasks that it has pushed stay.
--   arguments: its member
-- Returns whether it was there.
--- @include "includes/shard"
--- @include "includes/next_fire"

forget_schedule(ARGV[2])
return redis.call('UNLINK', root .. 'schedule:' .. ARGV[2])
