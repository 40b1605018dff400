--- @include "includes/history"
-- Put a task in a terminal set (`finished`, `failed` or `canceled`) for its retention, and tell who waits.
local function end_task(user, member, set)
  redis.call('ZADD', root .. set, integer(now + opts.retention[set]), member)
  redis.call('HSET', root .. 'run:' .. member, 'finished_at', integer(now))
  redis.call('PUBLISH', root .. 'done:' .. member, set)
  user.live = user.live - 1
end

-- Put a task in the dead letter queue. `entry` has the failure's `attempt`, `type` and `error`.
local function fail_task(user, member, entry)
  redis.call('HSET', root .. 'run:' .. member, 'failure_type', entry.type, 'error', entry.error)
  remember(member, entry)
  end_task(user, member, 'failed')
end
