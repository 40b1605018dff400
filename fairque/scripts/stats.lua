#!lua flags=no-writes
-- stats: how many tasks are where, how fair the service is, and how many transitions there were.
-- Returns scheduled, deferred, started, finished, failed, canceled, ready users, users, workers, throttled users, whether the
-- queue is paused, the smallest and the largest virtual time in the ring, the time within the minute (ms), the
-- service in this minute and in the last (users, sum, squares, ring, starts, unserved), and the totals (name,
-- value, …).
--- @include "includes/shard"
--- @include "includes/service"

local function size(name)
  return redis.call('ZCARD', root .. name)
end

local function service_of(which)
  local key = root .. 'service:' .. string.format('%d', which)
  return redis.call('HMGET', key, 'users', 'sum', 'squares', 'ring', 'starts', 'unserved')
end

return {
  size('scheduled'), size('deferred'), size('leases'), size('finished'), size('failed'), size('canceled'),
  size('ring'), size('users'), redis.call('ZCOUNT', root .. 'workers', now, '+inf'), size('throttled'),
  redis.call('HEXISTS', root .. 'settings', 'paused'),
  redis.call('ZRANGE', root .. 'ring', 0, 0, 'WITHSCORES')[2] or '0',
  redis.call('ZRANGE', root .. 'ring', -1, -1, 'WITHSCORES')[2] or '0',
  now % MINUTE_MS, service_of(minute), service_of(minute - 1),
  redis.call('HGETALL', root .. 'stats'),
}
