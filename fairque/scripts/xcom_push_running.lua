#!lua flags=allow-oom
-- xcom_push_running: as xcom_push, for a running attempt. A full server takes it too, or no task that pushes could end
-- and the backlog would not drain.
--   options: as for xcom_push, with a fence
--   arguments: user, namespace, key (escaped), value
-- Returns when it expires (ms). Refused with LEASELOST.
--- @include "includes/shard"
--- @include "includes/xcom_put"

return put(ARGV[4], ARGV[5])
