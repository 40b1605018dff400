#!lua flags=allow-oom
-- reclaim: STARTED → QUEUED or FAILED, for tasks whose lease has expired: their worker crashed or hangs.
--   options: limit, max_crashes, retention
-- Returns the members reclaimed.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/end_task"

local expired = redis.call('ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'LIMIT', 0, opts.limit)
local poisoned = 0
for _, member in ipairs(expired) do
  local user = load_user((parts_of(member)))
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'place', 'worker', 'crashes')
  local attempt, crashes = tonumber(run[1]), (tonumber(run[4]) or 0) + 1
  end_lease(user, member)
  if not run[2] or redis.call('EXISTS', root .. 'task:' .. member) == 0 then
    drop_lost(user, member)
  else
    local entry = { attempt = attempt, type = 'crashed', error = 'its lease ran out', worker = run[3] }
    redis.call('HSET', root .. 'run:' .. member, 'crashes', crashes)
    if crashes >= opts.max_crashes then
      entry.type = 'poisoned'
      entry.error = 'its lease ran out ' .. crashes .. ' times: it seems to kill its worker'
      fail_task(user, member, entry)
      poisoned = poisoned + 1
    else
      remember(member, entry)
      return_to_lane(member, run[2])
    end
  end
end
settle_users()
count('reclaimed', #expired)
count('failed', poisoned)
return expired
