--- @include "includes/users"
--- @include "includes/edges"
-- Telling those that depend on what has ended. Most tasks have no dependents, so all that this takes is defined when it
-- is needed.
local function downstream()
--- @include_inside "includes/downstream"
  return { release_ended = release_ended, release_waiting = release_waiting }
end

-- To be called once, after the last end and before the users are settled.
local function release_dependents()
  if any_has_dependents(ended) then
    needed(downstream).release_ended()
  end
  ended = {}
end
