--- @include "includes/users"
--- @include "includes/fence"
-- What an attempt has used goes on its user's account.
local SHORTEST_RUN = 0.001 -- seconds that the shortest attempt costs

local function time_costs()
--- @include_inside "includes/cost"
  return { correct = correct, learn_from = learn_from }
end

-- What the attempt has used until `till`. Returns the seconds.
local function settle_attempt(user, run, till)
  local ran = math.max(0, till - (run.started_at or till))
  local seconds = math.max(ran / 1000, SHORTEST_RUN)
  user.in_flight = user.in_flight - 1
  user.busy_ms = user.busy_ms + ran
  if run.charged then
    needed(time_costs).correct(user, run, seconds)
  end
  return seconds
end
