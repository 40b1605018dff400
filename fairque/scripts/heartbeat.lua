#!lua flags=allow-oom
-- heartbeat: renews leases, and tells the shard that the worker is alive. An attempt that has outrun what it was
-- charged is charged as it runs.
--   options: worker (absent for none), lease_ms
--   arguments: member, attempt, claim for each running task
-- Returns 1 for each lease renewed, 0 for a lost one, 2 where the task was canceled.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/account"

local expires = now + opts.lease_ms
local renewed = {}
for i = 2, #ARGV, 3 do
  local member, attempt, claim = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local run = attempt_of(member)
  if not is_attempt(run, attempt, claim) then
    renewed[#renewed + 1] = 0
  elseif is_leased(member) then
    redis.call('ZADD', root .. 'leases', 'XX', expires, member)
    local seconds = (now - (run.started_at or now)) / 1000
    if run.charged and seconds > run.charged then
      needed(time_costs).correct(load_user((parts_of(member))), run, seconds)
      redis.call('HSET', root .. 'run:' .. member, 'charged', seconds)
    end
    renewed[#renewed + 1] = 1
  else
    renewed[#renewed + 1] = redis.call('ZSCORE', root .. 'canceled', member) and 2 or 0
  end
end
settle_users()
if opts.worker then
  redis.call('ZADD', root .. 'workers', expires, opts.worker)
end
return renewed
