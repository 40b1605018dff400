--- @include "includes/stored"
--- @include "includes/lane"
local PLACES = {
  { 'leases', 'STARTED' },
  { 'scheduled', 'SCHEDULED' },
  { 'deferred', 'DEFERRED' },
  { 'finished', 'FINISHED' },
  { 'failed', 'FAILED' },
  { 'canceled', 'CANCELED' },
}

-- A task's state is where it is. Returns the state, the task's score there, and of a QUEUED one its group;
-- nothing for an unknown task.
local function locate(member)
  local name, id = parts_of(member)
  local score = redis.call('ZSCORE', lane_key(name, ''), id)
  if score then
    return 'QUEUED', score, ''
  end
  for _, place in ipairs(PLACES) do
    score = redis.call('ZSCORE', root .. place[1], member)
    if score then
      return place[2], score
    end
  end
  local readable, header = pcall(stored_header, member)
  local group = readable and type(header) == 'table' and group_of(header) or ''
  score = group ~= '' and redis.call('ZSCORE', lane_key(name, group), id)
  if score then
    return 'QUEUED', score, group
  end
end

local function unknown_task(member)
  return redis.error_reply('UNKNOWNTASK ' .. member)
end
