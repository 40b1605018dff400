-- What tells an attempt from every other besides its number, as text: the place that its task had in its lane, and
-- when it was claimed, to the microsecond. The place is unlike that of any other task of the user. The moment tells
-- apart a claim that a failover has forgotten from the one that followed it, of the same task at the same place.
local function claim_text(place, claimed_us)
  return place .. ':' .. claimed_us
end

-- The last attempt of a task, as the claim wrote it down. `charged` is there where tasks cost the time they run.
local function attempt_of(member)
  local run = redis.call(
    'HMGET', root .. 'run:' .. member, 'attempt', 'claimed_us', 'place', 'started_at', 'charged', 'group'
  )
  return {
    member = member,
    number = run[1],
    claim = run[2] and run[3] and claim_text(run[3], run[2]),
    place = run[3],
    started_at = tonumber(run[4]),
    charged = tonumber(run[5]),
    group = run[6] or nil, -- nil where the user had no groups when the attempt began
  }
end

-- The fence.
local function is_attempt(run, number, claim)
  return run.number == number and run.claim == claim
end

local function is_leased(member)
  return redis.call('ZSCORE', root .. 'leases', member) ~= false
end
