--- @include "includes/wake"
-- A user's rate, as a token bucket in one number (GCRA, ITU-T I.371): `full_at`, the time in milliseconds at
-- which its bucket would be full again. (A part that is defined when it is needed: see users.lua.)
local LONGEST_GAP = 1e12 -- ms, thirty years: so slower rates count as that, and no arithmetic overflows
local ROUNDING = 0.05 -- ms; today's milliseconds have four decimals in a double

local function gap_of(rate)
  return math.min(1000 / rate, LONGEST_GAP)
end

local function usable_from(user)
  local policy = user.policy
  local gap = gap_of(policy.rate)
  local tokens = policy.burst or math.max(1, math.ceil(policy.rate))
  user.full_at = math.min(user.full_at, now + tokens * gap) -- the rate may have been raised since
  return user.full_at - (tokens - 1) * gap - ROUNDING
end

local function use_token(user)
  user.full_at = math.max(user.full_at, now) + gap_of(user.policy.rate)
end

-- In `throttled` while nothing but its rate holds the user back. An idle worker sleeps until the first of them
-- comes back, so a new first one wakes it, and so does a new time of the first.
local function settle_throttled(user)
  if user.due then
    local is_changed = redis.call('ZADD', root .. 'throttled', 'CH', user.due, user.name) == 1
    if is_changed and redis.call('ZRANK', root .. 'throttled', user.name) == 0 then
      wake()
    end
    if user.throttled == 0 then
      user.throttled = now
    end
  elseif user.throttled > 0 then
    local due = tonumber(redis.call('ZSCORE', root .. 'throttled', user.name)) or now
    local till = math.min(now, math.ceil(due)) -- from then on nobody came to let it back
    redis.call('ZREM', root .. 'throttled', user.name)
    redis.call('HINCRBY', root .. 'user:' .. user.name, 'throttled_ms', math.max(0, till - user.throttled))
    user.throttled = 0
  end
end
