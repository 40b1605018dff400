#!lua flags=allow-oom
-- release: STARTED → QUEUED, for a batch: a worker hands back what it will not finish. Not a crash; each task
-- takes its old place in the lane. With `leaving` the worker also takes its leave.
--   options: leaving (a worker's id, or absent), claimants (as it called itself in claims)
--   arguments: member, attempt, claim for each task
-- Returns 1 for each task handed back (also when it was before), 0 where the lease is lost.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"

local released, total = {}, 0
for i = 2, #ARGV, 3 do
  local member, attempt, claim = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local name, id = parts_of(member)
  local run = attempt_of(member)
  local holds = is_attempt(run, attempt, claim)
  if holds and is_leased(member) then
    local user = load_user(name)
    end_lease(user, member, run)
    return_to_lane(user, member, run)
    released[#released + 1], total = 1, total + 1
  elseif holds and redis.call('ZSCORE', lane_key(name, run.group or ''), id) == place_in_claim(run.claim) then
    released[#released + 1] = 1 -- said twice
  else
    released[#released + 1] = 0
  end
end
settle_users()
count('released', total)
if opts.leaving then
  redis.call('ZREM', root .. 'workers', opts.leaving)
  for _, claimant in ipairs(opts.claimants) do
    redis.call('UNLINK', root .. 'claim:' .. claimant)
  end
end
if redis.call('EXISTS', root .. 'ring') == 1 then
  wake() -- the leaver may have taken a wake-up with it
end
return released
