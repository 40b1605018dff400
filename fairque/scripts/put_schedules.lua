#!lua
-- put_schedules: adds schedules, or puts each in place of what the caller has seen of it.
--   arguments: for each schedule its member, the revision and the fire time that were seen (empty for a new one), the
--   new revision (unlike any other), definition, record of its task, next fire time, when that is due (both empty for
--   one that does not fire), when it was added
-- Returns 1 for each that is now there in its new revision (also when it was before), 0 where it is not as it was seen.
--- @include "includes/shard"
--- @include "includes/next_fire"

local function first_due()
  return tonumber(redis.call('ZRANGE', root .. 'schedules', 0, 0, 'WITHSCORES')[2]) or math.huge
end

local done, first = {}, first_due()
for i = 2, #ARGV, 9 do
  local member, seen, seen_fire, revision, definition, record, fire, due, created_at = unpack(ARGV, i, i + 8)
  local key = root .. 'schedule:' .. member
  local known = redis.call('HMGET', key, 'revision', 'fire')
  done[#done + 1] = 1
  if (known[1] or '') == seen and time_in(known[2]) == seen_fire then
    redis.call('HSET', key, 'revision', revision, 'definition', definition, 'task', record, 'created_at', created_at)
    redis.call('ZADD', root .. 'schedule_index', 0, member)
    set_next_fire(member, fire, due)
  elseif known[1] ~= revision then
    done[#done] = 0
  end
end
-- A scheduler sleeps until the first one is due.
if first_due() < first then
  redis.call('PUBLISH', root .. 'schedules', 'sooner')
end
return done
