#!lua flags=no-writes
-- health: what the server says of itself, the number of live workers, and how many leases are overdue (a
-- minute past their expiry: nobody reclaims).
-- Returns INFO's text, workers, overdue leases.
--- @include "includes/shard"

return {
  redis.call('INFO'),
  redis.call('ZCOUNT', root .. 'workers', now, '+inf'),
  redis.call('ZCOUNT', root .. 'leases', '-inf', now - 60000),
}
