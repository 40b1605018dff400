--- @include "includes/fence"
-- A claim that is repeated. (A part of claim that is defined when it is needed.)
local function give_again(members)
  for _, member in ipairs(members) do
    local last = attempt_of(member)
    local more = redis.call('HMGET', root .. 'run:' .. member, 'failures', 'worker', 'crashes')
    local record = redis.call('GET', root .. 'task:' .. member)
    if record and more[2] == opts.worker and is_leased(member) then
      reply[5] = is_suspect(more[3]) and 1 or 0
      give(member, tonumber(last.number), last.claim, tonumber(more[1]) or 0, record)
    end
  end
end
