#!lua flags=no-writes
-- workers: which workers live, as far as their heartbeats tell.
--   options: limit
-- Returns their ids.
--- @include "includes/shard"

return redis.call('ZRANGEBYSCORE', root .. 'workers', now, '+inf', 'LIMIT', 0, opts.limit)
