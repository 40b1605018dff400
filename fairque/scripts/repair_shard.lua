#!lua flags=no-writes
-- repair_shard: looks at what the shard keeps once. Changes nothing.
--   options: balance (whether the totals fit the users' live tasks, too: some µs for each user that has any)
-- Returns how many things are wrong, and 1 if no other script can look at anything for one of them.
--- @include "includes/shard"
--- @include "includes/repair_shard"

local bad = garbage()
local found = #bad + (has_lost_policies() and 1 or 0) + (redis.call('LLEN', root .. 'wake') > 1 and 1 or 0)
if opts.balance then
  found = found + (surplus() ~= 0 and 1 or 0)
end
return { found, bad.blocks and 1 or 0 }
