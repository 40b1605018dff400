-- THE charge: virtual time grows by cost over weight when an attempt is dispatched.
local TASK_COST = 1

local function charge(user, cost)
  user.v = user.v + cost / user.weight
end
