#!lua flags=no-writes
-- repair_schedules: which schedules do not stand as they must. Changes nothing.
--   arguments: members
-- Returns those that do not.
--- @include "includes/shard"
--- @include "includes/repair_schedule"

local wrong = {}
for i = 2, #ARGV do
  if not is_sound(look_at_schedule(ARGV[i])) then
    wrong[#wrong + 1] = ARGV[i]
  end
end
return wrong
