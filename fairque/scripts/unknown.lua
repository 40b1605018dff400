#!lua flags=allow-oom
-- unknown: STARTED → SCHEDULED: the worker does not know the task's function, another one may. Neither a failure nor a
-- crash. Once nobody who met the task has known it for the grace, it goes to FAILED.
--   options: entry (type, error: of the end that this may be), grace_ms, retention, ageing_us
--   arguments: member, attempt, claim
-- Returns the state the task has now, also when this attempt had said so before; nothing where the lease is lost.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/schedule"
--- @include "includes/lease"
--- @include "includes/fail_task"
--- @include "includes/release"

-- In milliseconds. Each offer may meet a worker that does not know it again, so there must be many within the grace;
-- and a burst, which waits for what is due within ten seconds, must end.
local SHORTEST_DELAY, LONGEST_DELAY = 1000, 15000
local member, attempt, claim = ARGV[2], ARGV[3], ARGV[4]
local key = root .. 'run:' .. member
local run = attempt_of(member)
if not is_attempt(run, attempt, claim) then
  return false
end
local met = redis.call('HMGET', key, 'unknown_attempt', 'unknown_since', 'failed_attempt')
if not is_leased(member) then
  return (met[1] == attempt and 'SCHEDULED') or (met[3] == attempt and 'FAILED')
end

-- An attempt in between that was run, lost or handed back was another worker's: from there on it counts anew.
local is_met_again = tonumber(met[1]) == tonumber(attempt) - 1
local since = is_met_again and tonumber(met[2]) or now
local waited = math.max(0, now - since)
local left = opts.grace_ms - waited
local user = load_user((parts_of(member)))
end_lease(user, member, run)
local state = left > 0 and 'SCHEDULED' or 'FAILED'
if left > 0 then
  -- It waits as long as it has waited so far, so the delays double; the last one ends with the grace.
  local delay = math.min(math.max(waited, SHORTEST_DELAY), LONGEST_DELAY, left)
  redis.call('HSET', key, 'unknown_attempt', attempt, 'unknown_since', since, 'error', opts.entry.error)
  schedule(user, member, now_us + delay * 1000)
  count('unknown', 1)
else
  redis.call('HDEL', key, 'unknown_attempt', 'unknown_since') -- requeued, it waits anew
  redis.call('HSET', key, 'failed_attempt', attempt)
  opts.entry.attempt = tonumber(attempt)
  fail_task(user, member, opts.entry)
  count('failed', 1)
end
release_dependents()
settle_users()
return state
