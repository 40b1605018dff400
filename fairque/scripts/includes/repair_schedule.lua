--- @include "includes/next_fire"
-- What repair thinks of a schedule: its record says when it fires, and two sets follow from it.
local NEEDED = { 'revision', 'definition', 'task' }

local function is_exact_time(text)
  local time = time_in(text)
  return time ~= '' and tonumber(time) < 9e12
end

-- How it stands: what there is of its record (none, some: it cannot be used, or all), its next fire time, when it is due.
local function look_at_schedule(member)
  local key = root .. 'schedule:' .. member
  local fields = redis.call('HMGET', key, unpack(NEEDED))
  local number = 0
  for i = 1, #NEEDED do
    number = number + (fields[i] and 1 or 0)
  end
  local found = { key = key, has = 'some', fire = redis.call('HGET', key, 'fire') or nil }
  if number == #NEEDED then
    found.has = 'all'
  elseif redis.call('EXISTS', key) == 0 then
    found.has = 'none'
  end
  found.due = redis.call('ZSCORE', root .. 'schedules', member) or nil
  found.is_listed = redis.call('ZSCORE', root .. 'schedule_index', member) == '0'
  return found
end

local function is_sound(found)
  if found.has ~= 'all' or not found.is_listed then
    return false
  end
  if found.fire == nil and found.due == nil then
    return true
  end
  return is_exact_time(found.fire) and is_exact_time(found.due) and tonumber(found.due) >= tonumber(found.fire)
end
