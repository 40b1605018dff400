--- @include "includes/dependencies"
--- @include "includes/locate"
-- What repair thinks of an edge, which stands in the blockers of the task that waits and in the dependents of its
-- dependency. Where one of the ends is lost, the other tells; where they contradict each other, the task's place does.

-- What the judgement needs to know of a task.
local function end_of(member)
  local found = { member = member, is_known = redis.call('EXISTS', root .. 'task:' .. member) == 1 }
  for _, set in ipairs({ 'finished', 'failed', 'canceled', 'deferred' }) do
    found.place = found.place or (redis.call('ZSCORE', root .. set, member) and set)
  end
  return found
end

local function may_wait(task)
  return task.place == 'deferred' or (not task.place and not locate(task.member))
end

-- What the task's header says of failures; it may be damaged.
local function policy_of_task(member)
  local readable, header = pcall(stored_header, member)
  return readable and type(header) == 'table' and on_failure(header) or WAIT
end

local function number_among(score, least, largest)
  score = tonumber(score)
  return score and score >= least and score <= largest and score % 1 == 0 and score or nil
end

-- What should stand at both ends: in the blockers, and in the dependents; nothing for no entry.
local function wanted(edge)
  local b, e = number_among(edge.b, OPEN, MET), number_among(edge.e, ENDED, RUN)
  if not edge.task.is_known then
    return nil, nil
  end
  local is_open = b == OPEN or (not b and e ~= nil and e > SETTLED)
  if is_open and edge.task.place == 'canceled' then
    return OPEN, e -- it waits for nothing any more, and its edges stay as they were
  end
  if is_open and may_wait(edge.task) then
    return OPEN, (e and e > SETTLED) and e or policy_of_task(edge.task.member)
  end
  if edge.is_gate then
    return nil, e and math.min(e, SETTLED)
  end
  return MET, (e and math.min(e, SETTLED)) or (edge.dependency.is_known and SETTLED or nil)
end

-- Whether the task waits for what has ended already, and nobody is going to tell it.
local function is_unreleased(edge, b, e)
  if b ~= OPEN or edge.task.place == 'canceled' or redis.call('ZSCORE', root .. 'releasing', edge.dependency.member) then
    return false
  end
  if edge.is_gate then
    return not redis.call('ZSCORE', root .. 'gates', edge.dependency.member)
  end
  local place = edge.dependency.place
  if place == 'failed' or place == 'canceled' then
    return e ~= WAIT or redis.call('HEXISTS', root .. 'run:' .. edge.dependency.member, 'spread') == 1
  end
  return place == 'finished'
end

-- `task` and `dependency` are ends; b and e what stands there, where the caller has read it.
local function edge_between(task, dependency)
  local _, task_id = parts_of(task.member)
  local _, id = parts_of(dependency.member)
  local edge = { task = task, dependency = dependency, task_id = task_id, id = id, is_gate = is_gate(id) }
  edge.b = tonumber(redis.call('ZSCORE', blockers_key(task.member), id) or nil)
  edge.e = tonumber(redis.call('ZSCORE', dependents_key(dependency.member), task_id) or nil)
  return edge
end

-- Whether an edge is sound; if not, also what should stand at its ends, and whether the dependency's end is to be
-- told.
local function judge_edge(edge)
  local b, e = wanted(edge)
  local tells = is_unreleased(edge, b, e)
  return b == edge.b and e == edge.e and not tells, b, e, tells
end
