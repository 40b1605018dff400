#!lua flags=allow-oom
-- xcom_clear: removes the values of a namespace, a chunk at a time: those that expire first.
--   options: limit, sweep (how many expired entries to remove besides), fence (as for xcom_push)
--   arguments: user, namespace (escaped)
-- Returns how many values there were among them, and how many entries are left. Refused with LEASELOST.
--- @include "includes/shard"
--- @include "includes/xcom_write"

local refused = refusal()
if refused then
  return refused
end
local removed = drop(redis.call('ZRANGE', index, 0, opts.limit - 1))
settle_index()
return { removed, redis.call('ZCARD', index) }
