--- @include "includes/fence"
-- A claim that is repeated: it gives the same attempts, and their leases begin anew, as their worker counts from now on.
-- (A part of claim that is defined when it is needed.)
local function give_again(members)
  for _, member in ipairs(members) do
    local last = attempt_of(member)
    local more = redis.call('HMGET', root .. 'run:' .. member, 'failures', 'worker', 'crashes')
    local record = redis.call('GET', root .. 'task:' .. member)
    if record and more[2] == opts.worker and is_leased(member) then
      reply[5] = is_suspect(more[3]) and 1 or 0
      redis.call('ZADD', root .. 'leases', expires, member)
      give(member, tonumber(last.number), last.claim, tonumber(more[1]) or 0, record)
    end
  end
  redis.call('PEXPIRE', claim_key, opts.lease_ms)
end
