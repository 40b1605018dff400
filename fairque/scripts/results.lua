#!lua flags=no-writes
-- results: the results of tasks that others read, as far as they fit into one reply.
--   options: bytes (that are enough for one reply; the tasks that were not reached have to be asked for again)
--   arguments: member, …
-- Returns for each task that was reached its state (false for an unknown one) and its result (false if it has none).
--- @include "includes/shard"
--- @include "includes/locate"

local found, bytes = {}, 0
for i = 2, #ARGV do
  if bytes >= opts.bytes then
    break
  end
  local result = redis.call('GET', root .. 'result:' .. ARGV[i])
  bytes = bytes + (result and #result or 0)
  found[#found + 1] = locate(ARGV[i]) or false
  found[#found + 1] = result
end
return found
