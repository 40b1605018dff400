#!lua flags=no-writes
-- repair_edges: looks whether edges between tasks are whole. Changes nothing.
--   options: limit (edges to look at, about)
--   arguments: side (blockers or dependents), member, cursor ('0' to begin) for each key
-- Returns how many keys it is through with, the cursor in the next one, and for each edge that something is wrong with:
-- the member that waits, that of its dependency.
--- @include "includes/shard"
--- @include "includes/repair_edge"

local found, left = { 0, '0' }, opts.limit

local function look(side, member, id)
  local name = parts_of(member)
  local near, far = end_of(member), end_of(name .. ':' .. id)
  local task, dependency = near, far
  if side == 'dependents' then
    task, dependency = far, near
  end
  if not judge_edge(edge_between(task, dependency)) then
    found[#found + 1], found[#found + 2] = task.member, dependency.member
  end
end

for i = 2, #ARGV, 3 do
  local side, member, cursor = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  repeat
    local step = redis.call('ZSCAN', root .. side .. ':' .. member, cursor, 'COUNT', 100)
    cursor = step[1]
    for k = 1, #step[2], 2 do
      look(side, member, step[2][k])
      left = left - 1
    end
  until cursor == '0' or left <= 0
  if cursor ~= '0' then
    found[2] = cursor
    break
  end
  found[1] = found[1] + 1
  if left <= 0 then
    break
  end
end
return found
