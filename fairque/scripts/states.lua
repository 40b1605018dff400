#!lua flags=no-writes
-- states: where tasks are.
--   arguments: member, …
-- Returns the state of each; false for an unknown one.
--- @include "includes/shard"
--- @include "includes/locate"

local states = {}
for i = 2, #ARGV do
  states[i - 1] = locate(ARGV[i]) or false
end
return states
