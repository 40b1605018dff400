--- @include "includes/history"
--- @include "includes/users"
-- Tell the task's run, those who wait for it, and its user that it has ended.
local function announce_end(user, member, set)
  redis.call('HSET', root .. 'run:' .. member, 'finished_at', now)
  redis.call('PUBLISH', root .. 'done:' .. member, set)
  ended[#ended + 1] = member
  user.live = user.live - 1
end

-- Put a task in a terminal set (`finished`, `failed` or `canceled`) for its retention.
local function end_task(user, member, set)
  redis.call('ZADD', root .. set, now + opts.retention[set], member)
  announce_end(user, member, set)
end

-- Put a task in the dead letter queue. `entry` has the failure's `attempt`, `type` and `error`.
local function fail_task(user, member, entry)
  redis.call('HSET', root .. 'run:' .. member, 'failure_type', entry.type, 'error', entry.error)
  redis.call('HINCRBY', root .. 'user:' .. user.name, 'failed', 1)
  remember(member, entry)
  end_task(user, member, 'failed')
end
