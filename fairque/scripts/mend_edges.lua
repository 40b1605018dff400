#!lua flags=allow-oom
-- mend_edges: makes edges whole at both ends, and tells tasks that wait for what has ended. Each is judged anew.
--   options: retention, ageing_us
--   arguments: the member that waits, that of its dependency for each edge
-- Returns how many were mended.
--- @include "includes/shard"
--- @include "includes/repair_edge"
--- @include "includes/release"

local function write(key, id, score)
  if score then
    redis.call('ZADD', key, score, id)
  else
    redis.call('ZREM', key, id)
  end
end

local mended = 0
for i = 2, #ARGV, 2 do
  local edge = edge_between(end_of(ARGV[i]), end_of(ARGV[i + 1]))
  local is_sound, b, e, tells = judge_edge(edge)
  if not is_sound then
    mended = mended + 1
    write(blockers_key(edge.task.member), edge.id, b)
    write(dependents_key(edge.dependency.member), edge.task_id, e)
    if tells and edge.is_gate then
      redis.call('ZADD', root .. 'releasing', now_us, edge.dependency.member)
      wake() -- the next claim opens it: its tasks were pushed, and nobody is left to say that these are all
    elseif tells then
      ended[#ended + 1] = edge.dependency.member
    end
  end
end
release_dependents()
settle_users()
return mended
