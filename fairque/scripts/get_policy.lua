#!lua flags=no-writes
-- get_policy: the layers of one user's policy.
--   arguments: user (escaped)
-- Returns the default, the configured and the live layer (JSON objects as text) and the pause switch (1 or 0);
-- false for each that is not set.
--- @include "includes/shard"

local own = redis.call('HMGET', root .. 'policy:' .. ARGV[2], 'configured', 'live', 'paused')
return { redis.call('HGET', root .. 'settings', 'default'), own[1], own[2], own[3] }
