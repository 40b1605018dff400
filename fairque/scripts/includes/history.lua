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
