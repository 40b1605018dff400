-- THE definition of eligible. A user is in the ring if and only if this holds.
local function eligible(user, ready)
  return ready > 0
end
