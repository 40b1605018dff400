#!lua flags=allow-oom
-- cleanup: terminal → gone, for tasks past their retention; also workers that stopped telling of themselves,
-- and the records of users that have had no task for a while.
--   options: limit, idle_user_ms
-- Returns how many tasks were removed.
--- @include "includes/shard"
--- @include "includes/policy"

-- The count of a user's failed tasks stands in its record, if it still has one.
local function forget_failed(member)
  local key = root .. 'user:' .. parts_of(member)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBY', key, 'failed', -1)
  end
end

local removed = 0
for _, set in ipairs({ 'finished', 'failed', 'canceled' }) do
  local ended = redis.call('ZRANGEBYSCORE', root .. set, '-inf', now, 'LIMIT', 0, opts.limit - removed)
  for _, member in ipairs(ended) do
    redis.call('UNLINK', root .. 'task:' .. member, root .. 'run:' .. member, root .. 'result:' .. member)
    redis.call('ZREM', root .. set, member)
    if set == 'failed' then
      forget_failed(member)
    end
  end
  removed = removed + #ended
end

redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)

-- A score of 0 marks a user with live tasks, an infinite one a user with a policy. Another that is idle for long
-- enters at the floor again, with or without a record. Its record counts its failed tasks, and stays with them; it
-- also stays until the bucket of a slow rate is full again, which a new record would begin with.
local function is_needed(name)
  local known = redis.call('HMGET', root .. 'user:' .. name, 'failed', 'full_at')
  return (tonumber(known[1]) or 0) > 0 or (default_policy.rate ~= nil and (tonumber(known[2]) or 0) > now)
end

local idle = redis.call(
  'ZRANGEBYSCORE', root .. 'users', 1, now - opts.idle_user_ms, 'LIMIT', 0, opts.limit
)
for _, name in ipairs(idle) do
  if is_needed(name) then
    redis.call('ZADD', root .. 'users', now, name) -- looked at again when it has been idle for as long once more
  else
    redis.call('UNLINK', root .. 'user:' .. name, root .. 'costs:' .. name, root .. 'idle_groups:' .. name)
    redis.call('ZREM', root .. 'users', name)
  end
end
return removed
