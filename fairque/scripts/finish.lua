#!lua flags=allow-oom
-- finish: STARTED → FINISHED, for a batch. Releases the tasks that depend on these.
--   options: result_ms (how long results are kept; 0 keeps none), retention
--   arguments: member, attempt, claim, result for each task
-- Returns 1 for each finished task (also when this attempt had finished it before), 0 where the lease is lost.
--- @include "includes/shard"
--- @include "includes/account"
--- @include "includes/announce"
--- @include "includes/release"

-- What the batch has in common is asked and written once: the leases, and the set of finished tasks.
local members, names, accepted, done, ending = {}, {}, {}, {}, {}
for i = 2, #ARGV, 4 do
  members[#members + 1] = ARGV[i]
  names[#names + 1] = string.sub(ARGV[i], 1, string.find(ARGV[i], ':', 1, true) - 1)
end
local leases = #members > 0 and redis.call('ZMSCORE', root .. 'leases', unpack(members)) or {}
local some_are_awaited = any_has_dependents(members)
local result_ms = opts.result_ms > 0 and integer(opts.result_ms)
local kept_until = integer(now + opts.retention.finished)

load_users(names)
for k, member in ipairs(members) do
  local attempt, claim, result = ARGV[4 * k - 1], ARGV[4 * k], ARGV[4 * k + 1]
  accepted[k] = 0
  local run = attempt_of(member)
  if is_attempt(run, attempt, claim) then
    if leases[k] and not done[member] then
      local user = load_user(names[k])
      -- One that was eligible has ready tasks, and none of them goes by this.
      user.is_ready = user.is_ready or (user.ring_v and true)
      -- A result that dependents may read is kept as long as its task, and that as long as they are (cleanup).
      if some_are_awaited and redis.call('EXISTS', dependents_key(member)) == 1 then
        redis.call('SET', root .. 'result:' .. member, result)
      elseif result_ms then
        redis.call('SET', root .. 'result:' .. member, result, 'PX', result_ms)
      end
      announce_end(user, member, 'finished')
      local seconds = settle_attempt(user, run, now)
      if run.charged then
        needed(time_costs).learn_from(user, run, seconds)
      end
      done[member] = true
      ending[#ending + 1], ending[#ending + 2] = kept_until, member
      accepted[k] = 1
    elseif done[member] or redis.call('ZSCORE', root .. 'finished', member) then
      accepted[k] = 1 -- said twice
    end
  end
end

if #ending > 0 then
  redis.call('ZADD', root .. 'finished', unpack(ending))
  redis.call('ZREM', root .. 'leases', unpack(ended))
  count('finished', #ended)
  if some_are_awaited then
    release_dependents()
  end
  settle_users()
end
return accepted
