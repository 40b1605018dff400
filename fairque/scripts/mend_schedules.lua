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
    redis.call('ZREM', root .. 'schedules', member)
    redis.call('ZREM', root .. 'schedule_index', member)
  elseif not is_sound(found) then
    redis.call('ZADD', root .. 'schedule_index', 0, member)
    local time = is_exact_time(found.fire) and found.fire or (is_exact_time(found.due) and found.due)
    if found.fire and time then
      redis.call('HSET', found.key, 'fire', time)
      redis.call('ZADD', root .. 'schedules', is_exact_time(found.due) and found.due or time, member)
    else
      redis.call('HDEL', found.key, 'fire')
      redis.call('ZREM', root .. 'schedules', member)
    end
  end
end
return #ARGV - 1
