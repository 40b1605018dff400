--- @include "includes/record"
--- @include "includes/lane"
--- @include "includes/in_lane"
--- @include "includes/schedule"
-- When (microseconds) a new task may start. A delay counts from now, not from the tick, which is ahead after a clock has
-- stepped back.
local function start_of(header)
  return header.execute_after and header.execute_after * 1000 or now_us + (header.delay or 0) * 1000
end

-- A new task takes its place: in its lane, or in `scheduled` until it may start. `ahead` is its place in the batch,
-- which keeps the order of equal times. Returns whether it is ready.
local function enter(user, member, header, tick, ahead)
  local start = start_of(header)
  if start > now_us then
    schedule(user, member, start + ahead)
    return false
  end
  local _, id = parts_of(member)
  put_in_lane(user, group_of(header), place_of(tick, priority_of(header)), id)
  return true
end
