-- A user's rate, as a token bucket in one number (GCRA, ITU-T I.371): `full_at`, the time in milliseconds at
-- which its bucket would be full again.
local LONGEST_GAP = 1e12 -- ms, thirty years: so slower rates count as that, and no arithmetic overflows
local ROUNDING = 0.05 -- ms; today's milliseconds have four decimals in a double

local function gap_of(rate)
  return math.min(1000 / rate, LONGEST_GAP)
end

local function usable_from(user)
  local policy = user.policy
  if not policy.rate then
    return 0
  end
  local gap = gap_of(policy.rate)
  local tokens = policy.burst or math.max(1, math.ceil(policy.rate))
  user.full_at = math.min(user.full_at, now + tokens * gap) -- the rate may have been raised since
  return user.full_at - (tokens - 1) * gap - ROUNDING
end

local function use_token(user)
  if user.policy.rate then
    user.full_at = math.max(user.full_at, now) + gap_of(user.policy.rate)
  end
end
