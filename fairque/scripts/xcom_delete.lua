#!lua flags=allow-oom
-- xcom_delete: removes one value.
--   options: sweep (how many expired entries to remove), fence (as for xcom_push)
--   arguments: user, namespace, key (escaped)
-- Returns 1 if it was there, else 0. Refused with LEASELOST.
--- @include "includes/shard"
--- @include "includes/xcom_write"

local refused = refusal()
if refused then
  return refused
end
local removed = drop({ ARGV[4] })
settle_index()
return removed
