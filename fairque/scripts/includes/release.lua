--- @include "includes/end_task"
--- @include "includes/edges"
-- Telling those that depend on what has ended. Most tasks have no dependents; so all that this takes is defined
-- when it is needed, since definitions cost time in every run of a script.
local function downstream()
--- @include_inside "includes/downstream"
  return { release_ended = release_ended, release_waiting = release_waiting }
end

-- To be called once, after the last end and before the users are settled.
local function release_dependents()
  if any_has_dependents(ended) then
    downstream().release_ended()
  end
  ended = {}
end

-- Go on with what earlier scripts left. Returns whether there was anything.
local function release_some()
  local is_left = redis.call('EXISTS', root .. 'releasing') == 1
  if is_left then
    downstream().release_waiting()
  end
  return is_left
end
