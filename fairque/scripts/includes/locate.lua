-- A task's state is where it is. Returns the state and the task's score there; nothing for an unknown task.
local function locate(member)
  local name, id = parts_of(member)
  local score = redis.call('ZSCORE', root .. 'lane:' .. name, id)
  if score then
    return 'QUEUED', score
  end
  for _, place in ipairs({
    { 'leases', 'STARTED' },
    { 'scheduled', 'SCHEDULED' },
    { 'finished', 'FINISHED' },
    { 'failed', 'FAILED' },
    { 'canceled', 'CANCELED' },
  }) do
    score = redis.call('ZSCORE', root .. place[1], member)
    if score then
      return place[2], score
    end
  end
end

local function unknown_task(member)
  return redis.error_reply('UNKNOWNTASK ' .. member)
end
