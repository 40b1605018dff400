#!lua flags=allow-oom
-- reclaim: STARTED → QUEUED or FAILED, for tasks whose lease has expired: their worker crashed or hangs.
--   options: limit, max_crashes, retention
-- Returns the members reclaimed.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/fail_task"
--- @include "includes/lost"
--- @include "includes/release"

local found = redis.call(
  'ZRANGEBYSCORE', root .. 'leases', '-inf', now, 'WITHSCORES', 'LIMIT', 0, opts.limit
)
local expired, poisoned = {}, 0
for i = 1, #found, 2 do
  local member, expiry = found[i], tonumber(found[i + 1])
  expired[#expired + 1] = member
  local user, run = load_user((parts_of(member))), attempt_of(member)
  end_lease(user, member, run, expiry)
  if not run.claim or redis.call('EXISTS', root .. 'task:' .. member) == 0 then
    drop_lost(user, member)
  else
    local crashes = redis.call('HINCRBY', root .. 'run:' .. member, 'crashes', 1)
    local entry = {
      attempt = tonumber(run.number), type = 'crashed', error = 'its lease ran out',
      worker = redis.call('HGET', root .. 'run:' .. member, 'worker'),
    }
    if crashes >= opts.max_crashes then
      entry.type = 'poisoned'
      entry.error = 'its lease ran out ' .. crashes .. ' times: it seems to kill its worker'
      fail_task(user, member, entry)
      poisoned = poisoned + 1
    else
      remember(member, entry)
      return_to_lane(user, member, run)
    end
  end
end
release_dependents()
settle_users()
count('reclaimed', #expired)
count('failed', poisoned)
return expired
