#!lua flags=allow-oom
-- mend_schedules: lets the sets of schedules say what their records say. Without a whole record there is no schedule.
--   arguments: members
-- Returns how many there were.
--- @include "includes/shard"
--- @include "includes/repair_schedule"

for i = 2, #ARGV do
  local member = ARGV[i]
  local found = look_at_schedule(member)
  if found.has ~= 'all' then
    redis.call('UNLINK', found.key)
    forget_schedule(member)
  elseif not is_sound(found) then
    redis.call('ZADD', root .. 'schedule_index', 0, member)
    local due = is_exact_time(found.due) and found.due or ''
    local time = is_exact_time(found.fire) and found.fire or (found.fire and due or '')
    local is_early = due == '' or tonumber(due) < (tonumber(time) or 0)
    set_next_fire(member, time, is_early and time or due)
  end
end
return #ARGV - 1
