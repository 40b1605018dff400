--- @include "includes/end_task"
-- The history of a task's attempts that did not succeed: a JSON array in its run, the last ten of them.
local HISTORY_LIMIT = 10

local function remember(member, entry)
  local stored = redis.call('HGET', root .. 'run:' .. member, 'history')
  local history = stored and cjson.decode(stored) or {}
  entry.at = now
  history[#history + 1] = entry
  if #history > HISTORY_LIMIT then
    table.remove(history, 1)
  end
  redis.call('HSET', root .. 'run:' .. member, 'history', cjson.encode(history))
end

-- Put a task in the dead letter queue. `entry` has the failure's `attempt`, `type` and `error`.
local function fail_task(user, member, entry)
  redis.call('HSET', root .. 'run:' .. member, 'failure_type', entry.type, 'error', entry.error)
  redis.call('HINCRBY', root .. 'user:' .. user.name, 'failed', 1)
  remember(member, entry)
  end_task(user, member, 'failed')
end
