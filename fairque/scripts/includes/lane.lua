-- The place of a task in its user's lane. A level of priority is worth `ageing` of waiting. CRITICAL sits a
-- fixed band (127 years in microseconds) ahead of everything, so it is first, and strictly in order of ticks.
local CRITICAL = 6
local CRITICAL_BAND = 4e15

local function place_of(tick, priority)
  if priority == CRITICAL then
    return tick - CRITICAL_BAND
  end
  return tick - (priority - 1) * opts.ageing_us
end
