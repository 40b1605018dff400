--- @include "includes/stored"
--- @include "includes/tick"
--- @include "includes/lane"
--- @include "includes/in_lane"
--- @include "includes/schedule"
--- @include "includes/edges"
-- Dependencies, within one user. An edge stands at both of its ends:
--   blockers:<task>    dependency → OPEN, or MET
--   dependents:<task>  dependent → what becomes of it should the task end otherwise than finished (WAIT, CANCEL,
--                      RUN); SETTLED once the task has ended and that was done; ENDED once the dependent has, too
-- A live task is in `deferred` if and only if it has an open blocker; its score is the time (µs) before which it
-- may not start in any case. A blocker may be a gate, which holds a graph that comes in several pushes until the
-- last has landed; its id is one that no task can have.
local OPEN, MET = 0, 1
local ENDED, SETTLED, WAIT, CANCEL, RUN = -1, 0, 1, 2, 3
local ON_FAILURE = { wait = WAIT, cancel = CANCEL, run = RUN }

local function on_failure(header)
  return ON_FAILURE[header.on_upstream_failure or 'wait']
end

local function is_gate(id)
  return string.sub(id, 1, 2) == '%%'
end

local function blockers_key(member)
  return root .. 'blockers:' .. member
end

-- Where many tasks are: 'finished', 'failed', 'canceled' or 'live' for each that is known.
local function states_of(members)
  local states = {}
  for slice in slices(members) do
    for _, set in ipairs({ 'finished', 'failed', 'canceled', 'deferred' }) do
      for i, score in ipairs(redis.call('ZMSCORE', root .. set, unpack(slice))) do
        if score then
          states[slice[i]] = set == 'deferred' and 'live' or set
        end
      end
    end
    for _, member in ipairs(slice) do
      if not states[member] and redis.call('EXISTS', root .. 'task:' .. member) == 1 then
        states[member] = 'live'
      end
    end
  end
  return states
end

-- Write down that a task depends on others, whose `states` are known (none for one that is still to come).
-- Edges that stand already stay as they are. Returns whether the task is to be canceled at once.
local function link(member, dependencies, policy, states)
  local name, id = parts_of(member)
  local blockers, is_doomed = {}, false
  for slice in slices(dependencies) do
    local known = redis.call('ZMSCORE', blockers_key(member), unpack(slice))
    for i, dependency in ipairs(slice) do
      local other = name .. ':' .. dependency
      local state = states[other] or 'live'
      local is_met = state == 'finished' or (state ~= 'live' and policy == RUN)
      is_doomed = is_doomed or (policy == CANCEL and (state == 'failed' or state == 'canceled'))
      if not known[i] then
        -- In the place of what an earlier task of this id may have left there, whose record was lost.
        redis.call('ZADD', dependents_key(other), is_met and SETTLED or policy, id)
        blockers[#blockers + 1], blockers[#blockers + 2] = is_met and MET or OPEN, dependency
      end
      if state == 'finished' then
        redis.call('PERSIST', root .. 'result:' .. other) -- it is kept for those that may read it
      end
    end
  end
  for slice in slices(blockers) do
    redis.call('ZADD', blockers_key(member), unpack(slice))
  end
  return is_doomed
end

local function has_open_blocker(member)
  return redis.call('ZCOUNT', blockers_key(member), OPEN, OPEN) > 0
end

local function defer(user, member, start)
  user.deferred = user.deferred + 1
  redis.call('ZADD', root .. 'deferred', start, member)
end

local function undefer(user, member)
  user.deferred = user.deferred - 1
  redis.call('ZREM', root .. 'deferred', member)
end

-- The last blocker is gone: the task is ready from now on, or from its `start` (µs) if that is later.
local function make_ready(user, member, header, start)
  if start > now_us then
    schedule(user, member, start)
  else
    local _, id = parts_of(member)
    put_in_lane(user, group_of(header), place_of(next_tick(), priority_of(header)), id)
  end
end
