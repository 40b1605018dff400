#!lua flags=allow-oom
-- finish: STARTED → FINISHED, for a batch.
--   options: result_ms (how long results are kept; 0 keeps none), retention
--   arguments: member, attempt, place, result for each task
-- Returns 1 for each finished task (also when this attempt had finished it before), 0 where the lease is lost.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/lease"
--- @include "includes/end_task"

local accepted, finished = {}, 0
for i = 2, #ARGV, 4 do
  local member, attempt, place, result = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local holds = is_attempt(member, attempt, place)
  if holds and is_leased(member) then
    local user = load_user((parts_of(member)))
    end_lease(user, member)
    if opts.result_ms > 0 then
      redis.call('SET', root .. 'result:' .. member, result, 'PX', opts.result_ms)
    end
    end_task(user, member, 'finished')
    finished = finished + 1
    accepted[#accepted + 1] = 1
  else
    accepted[#accepted + 1] = holds and redis.call('ZSCORE', root .. 'finished', member) and 1 or 0
  end
end
settle_users()
count('finished', finished)
return accepted
