#!lua flags=no-writes
-- get_schedules: some schedules, by their members.
--   arguments: members
-- Returns the time, and for each the fields of includes/read_schedule, or nothing for an unknown one.
--- @include "includes/shard"
--- @include "includes/read_schedule"

local found = { now }
for i = 2, #ARGV do
  local fields = read_schedule(ARGV[i])
  found[i] = fields[1] and fields
end
return found
