--- @include "includes/service"
--- @include "includes/groups"
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
  served(user, step)
  if group then
    user.groups = math.max(user.groups, group.v)
    group.v = group.v + math.max(step_of(cost, 1), group.v * SMALLEST_STEP)
  end
end

-- An attempt turns out to cost `seconds`. The weight is that of the dispatch: a refund is at most the charge.
local function correct(user, run, seconds)
  local weight = tonumber(redis.call('HGET', root .. 'run:' .. run.member, 'weight'))
  local step = step_of(seconds, weight) - step_of(run.charged, weight)
  user.v = user.v + step
  served(user, step)
  if user.groups and run.group then
    local group = load_group(user, run.group)
    group.v = group.v + (step_of(seconds, 1) - step_of(run.charged, 1))
  end
end
