local CRITICAL = 6
local CRITICAL_BAND = 4e15

local function lane_key(name, group)
  return root .. 'lane:' .. name .. (group == '' and '' or ':' .. group)
end

-- The place of a task in its lane. A level of priority is worth `ageing` of waiting. CRITICAL sits a fixed band
-- (127 years in microseconds) ahead of everything, so it is first, and strictly in order of ticks.
local function place_of(tick, priority)
  if priority == CRITICAL then
    return tick - CRITICAL_BAND
  end
  return tick - (priority - 1) * opts.ageing_us
end

-- The inverse: when (microseconds) a task took its place.
local function tick_of(place, priority)
  if priority == CRITICAL then
    return place + CRITICAL_BAND
  end
  return place + (priority - 1) * opts.ageing_us
end
