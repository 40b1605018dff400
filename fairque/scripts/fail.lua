#!lua flags=allow-oom
-- fail: STARTED → SCHEDULED (retry) or FAILED, as the caller decided. An end is told to those that depend on it.
--   options: retry_ms (delay of the retry; absent to give up), entry (type, error, traceback), retention
--   arguments: member, attempt, claim
-- Returns 1, also when this attempt had failed before; 0 where the lease is lost.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/schedule"
--- @include "includes/lease"
--- @include "includes/fail_task"
--- @include "includes/release"

local member, attempt, claim = ARGV[2], ARGV[3], ARGV[4]
local run = attempt_of(member)
if not is_attempt(run, attempt, claim) then
  return 0
end
if not is_leased(member) then
  return redis.call('HGET', root .. 'run:' .. member, 'failed_attempt') == attempt and 1 or 0
end

local user = load_user((parts_of(member)))
local entry = opts.entry
entry.attempt = tonumber(attempt)
local seconds = end_lease(user, member, run)
if run.charged then
  needed(time_costs).learn_from(user, run, seconds)
end
redis.call('HINCRBY', root .. 'run:' .. member, 'failures', 1)
redis.call('HSET', root .. 'run:' .. member, 'failed_attempt', attempt)
if opts.retry_ms then
  remember(member, entry)
  redis.call('HSET', root .. 'run:' .. member, 'error', entry.error)
  schedule(user, member, now_us + opts.retry_ms * 1000)
  count('retried', 1)
else
  fail_task(user, member, entry)
  count('failed', 1)
end
release_dependents()
settle_users()
return 1
