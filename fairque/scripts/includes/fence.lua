-- What tells an attempt from every other besides its number is its claim, as text: the place that its task had in its
-- lane, and when it was claimed, to the microsecond: `<place>:<time>`. The place is unlike that of any other task of
-- the user. The moment tells apart a claim that a failover has forgotten from the one that followed it, of the same
-- task at the same place. A `+` at the end says that the run has more about the attempt: `group` where its user has
-- groups, `charged` and `weight` where tasks cost the time they run.
local MORE = string.byte('+')

-- The last attempt of a task, as the claim wrote it down.
local function attempt_of(member)
  local key = root .. 'run:' .. member
  local stored = redis.call('HMGET', key, 'attempt', 'claim', 'started_at')
  local claim = stored[2]
  local run = { member = member, number = stored[1], claim = claim, started_at = tonumber(stored[3]) }
  if claim and string.byte(claim, -1) == MORE then
    local more = redis.call('HMGET', key, 'charged', 'group')
    run.charged, run.group = tonumber(more[1]), more[2] or nil
  end
  return run
end

local function place_in_claim(claim)
  return string.match(claim, '^[^:]*')
end

-- The fence.
local function is_attempt(run, number, claim)
  return run.number == number and run.claim == claim
end

local function is_leased(member)
  return redis.call('ZSCORE', root .. 'leases', member) ~= false
end
