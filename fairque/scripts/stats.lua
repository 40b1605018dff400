#!lua flags=no-writes
-- stats: how many tasks are where, and how many transitions there were.
-- Returns scheduled, started, finished, failed, canceled, ready users, users, workers, and the totals
-- (name, value, …).
--- @include "includes/shard"

local function size(name)
  return redis.call('ZCARD', root .. name)
end

return {
  size('scheduled'), size('leases'), size('finished'), size('failed'), size('canceled'),
  size('ring'), size('users'), redis.call('ZCOUNT', root .. 'workers', now, '+inf'),
  redis.call('HGETALL', root .. 'stats'),
}
