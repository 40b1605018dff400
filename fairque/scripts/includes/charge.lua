--- @include "includes/users"
-- THE charge: virtual time grows by cost over weight when an attempt is dispatched; where tasks cost the time
-- they run, an estimate is charged, and corrected as the attempt runs on and when it ends.
local LARGEST_STEP = 1e9 -- of one charge; so weights below a billionth count as one
local SMALLEST_STEP = 2 ^ -52 -- of the virtual time itself: a charge always moves it

local function step_of(cost, weight)
  return math.min(cost / weight, LARGEST_STEP)
end

local function charge(user, group, cost)
  local step = math.max(step_of(cost, user.policy.weight), user.v * SMALLEST_STEP)
  user.v = user.v + step
  needed(services).served(user, step, 1)
  if group then
    user.groups = math.max(user.groups, group.v)
    group.v = group.v + math.max(step_of(cost, 1), group.v * SMALLEST_STEP)
  end
end
