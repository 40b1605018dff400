#!lua flags=no-writes
-- repair_tasks: looks whether tasks are where they belong. Changes nothing.
--   options: retention, lease_ms, ageing_us
--   arguments: member, group (of a lane in which its id was seen; '' for its own) for each task
-- Returns for each one that something is wrong with: member, group, what it is, when it was made (ms).
--- @include "includes/shard"
--- @include "includes/repair_task"

local found = {}
for i = 2, #ARGV, 2 do
  local task = look_at(ARGV[i], ARGV[i + 1])
  local kind = judge(task)
  if kind then
    local made = task.header and task.header.created_at or 0
    for _, value in ipairs({ ARGV[i], ARGV[i + 1], kind, made }) do
      found[#found + 1] = value
    end
  end
end
return found
