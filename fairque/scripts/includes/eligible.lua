--- @include "includes/rate"
-- THE definition of eligible. A user is in the ring if and only if this holds. Returns also, for one whom only
-- its rate holds back, from when on (ms) it is eligible again.
local function eligible(user, ready)
  local policy = user.policy
  if ready == 0 or policy.paused then
    return false
  end
  if policy.max_concurrency and user.in_flight >= policy.max_concurrency then
    return false
  end
  local from = usable_from(user)
  if from > now then
    return false, from
  end
  return true
end
