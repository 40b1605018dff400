#!lua
-- xcom_push: stores a value for other tasks of the user, in place of the one before.
--   options: ttl_ms, sweep (how many expired entries to remove), fence (member, attempt, claim of the attempt that
--   writes; absent where none does)
--   arguments: user, namespace, key (escaped), value
-- Returns when it expires (ms). Refused with LEASELOST.
--- @include "includes/shard"
--- @include "includes/xcom_put"

return put(ARGV[4], ARGV[5])
