#!lua flags=no-writes
-- graph: tasks with what they depend on and what depends on them.
--   options: upstream (leaves out the dependents), limit (ids that are told of one task), enough (ids in one reply; the tasks that were not reached have to
--   be asked for again)
--   arguments: member, …
-- Returns for each task that was reached: its state (false for an unknown one), its header, its dependencies and
-- its dependents (id, score, …; scores as in includes/dependencies).
--- @include "includes/shard"
--- @include "includes/locate"

local found, ids = {}, 0
for i = 2, #ARGV do
  if ids >= opts.enough then
    break
  end
  local member = ARGV[i]
  local blockers = redis.call('ZRANGE', root .. 'blockers:' .. member, 0, opts.limit - 1, 'WITHSCORES')
  local dependents = {}
  if not opts.upstream then
    dependents = redis.call('ZRANGE', root .. 'dependents:' .. member, 0, opts.limit - 1, 'WITHSCORES')
  end
  ids = ids + #blockers / 2 + #dependents / 2
  found[#found + 1] = { locate(member) or false, stored_header_text(member) or false, blockers, dependents }
end
return found
