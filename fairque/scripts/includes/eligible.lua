-- THE definition of eligible. A user is in the ring if and only if this holds. Returns also, for one whom only
-- its rate holds back, from when on (ms) it is eligible again.
local function eligible(user, is_ready)
  local policy = user.policy
  if not is_ready or policy.paused then
    return false
  end
  if policy.max_concurrency and user.in_flight >= policy.max_concurrency then
    return false
  end
  local from = policy.rate and needed(rates).usable_from(user) or 0
  if from > now then
    return false, from
  end
  return true
end
