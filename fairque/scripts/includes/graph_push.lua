--- @include "includes/downstream"
--- @include "includes/cycle"
-- The part of a push that is about dependencies (`depends_on`: ids by member): checked before anything is written, and
-- then written down with the tasks.
opts.depends_on = opts.depends_on or {}
local links, states = {}, {} -- those that count, and where that is what they lead to

local function is_held_by_gate(member)
  if not redis.call('ZSCORE', root .. 'deferred', member) then
    return false
  end
  for _, id in ipairs(opts.depends_on[member]) do
    if is_gate(id) and redis.call('ZSCORE', blockers_key(member), id) then
      return true
    end
  end
  return false
end

-- Which of the pushed tasks are new, and the links that count: of new tasks, and of those that earlier pushes of
-- the same graph brought in part, as their gate tells.
local function new_links(size)
  local is_new, is_pushed, found = {}, {}, {}
  for i = 1, size do
    local member = ARGV[3 * i - 1] .. ':' .. ARGV[3 * i]
    is_pushed[member] = true
    is_new[member] = redis.call('EXISTS', root .. 'task:' .. member) == 0
  end
  for member, dependencies in pairs(opts.depends_on) do
    if is_new[member] or (not is_pushed[member] and is_held_by_gate(member)) then
      found[member] = dependencies
    end
  end
  return found, is_new
end

-- Call `act` with each task and dependency that is none of the new tasks.
local function each_known(links, is_new, act)
  for member, dependencies in pairs(links) do
    local name = parts_of(member)
    for _, dependency in ipairs(dependencies) do
      local other = name .. ':' .. dependency
      if not is_gate(dependency) and not is_new[other] then
        act(member, dependency, other)
      end
    end
  end
end

-- Where the dependencies are that are no new tasks. The second value is an error, if one is unknown.
local function known_states(links, is_new)
  local asked, is_asked = {}, {}
  each_known(links, is_new, function(_, _, other)
    if not is_asked[other] then
      is_asked[other] = true
      asked[#asked + 1] = other
    end
  end)
  local states, problem = states_of(asked), nil
  each_known(links, is_new, function(member, dependency, other)
    if not states[other] and opts.missing ~= 'wait' then
      problem = redis.error_reply('UNKNOWNDEPENDENCY ' .. member .. ':' .. dependency)
    end
  end)
  return states, problem
end

-- The new tasks that others wait for already, and the known tasks that wait and that new ones depend on: by user, the
-- members of the first and the ids of both.
local function ends_of_detours(links, is_new)
  local found, is_seen = {}, {}
  local function of(name)
    found[name] = found[name] or { members = {}, awaited = {}, known = {} }
    return found[name]
  end
  for member in pairs(links) do
    if redis.call('EXISTS', dependents_key(member)) == 1 then
      local name, id = parts_of(member)
      add_all(of(name).members, { member })
      add_all(of(name).awaited, { id })
      is_seen[member] = true
    end
  end
  if next(found) then
    each_known(links, is_new, function(member, dependency, other)
      if not is_seen[other] then
        is_seen[other] = true
        add_all(of((parts_of(member))).known, { dependency })
      end
    end)
  end
  return found
end

-- The client has looked for cycles within the push. Any other one leaves it, through a known task that waits for a
-- new one, and comes back to a known one that a new one depends on. One search tells whether there is such a way;
-- only then each task is looked at.
local function cycle_through(links, is_new)
  local dependents
  for name, ends in pairs(ends_of_detours(links, is_new)) do
    local waiting = deferred_of(name, ends.known)
    local up, down, _, problem = search(name, waiting, ends.awaited, {}, {})
    if problem then
      return problem
    end
    for _, member in ipairs((up or down) and ends.members or {}) do
      dependents = dependents or reversed(links)
      problem = find_cycle(member, links[member], links, dependents)
      if problem then
        return problem
      end
    end
  end
end

-- The error, if anything that the push says of dependencies cannot be.
local function problem_of_links(size)
  local is_new, problem
  links, is_new = new_links(size)
  states, problem = known_states(opts.check or {}, is_new)
  if problem then
    return problem
  end
  states, problem = known_states(links, is_new)
  return problem or cycle_through(links, is_new)
end

-- In a graph that comes in several pushes, what depends on another task of it is held back by that one; but not if
-- that was known before, and may run or have ended. Then the gate has to.
local function hold_back(member)
  local name = parts_of(member)
  for _, dependency in ipairs(links[member]) do
    local other = name .. ':' .. dependency
    if is_gate(dependency) or not states[other] or redis.call('ZSCORE', root .. 'deferred', other) then
      return
    end
  end
  local _, gate = parts_of(opts.gate)
  add_all(links[member], { gate })
end

-- Whether a new task does not become ready, for it depends on others. One that can never run is canceled at once.
local function defers(user, member, header, due)
  if not links[member] then
    return false
  end
  if opts.gate then
    hold_back(member)
  end
  local dependencies = links[member]
  links[member] = nil
  local is_doomed = link(member, dependencies, on_failure(header), states)
  if not is_doomed and not has_open_blocker(member) then
    return false
  end
  defer(user, member, due)
  if is_doomed then
    cancel_deferred(user, member)
  end
  return true
end

-- More dependencies of tasks that came with an earlier push of the same graph.
local function link_the_rest()
  for member, dependencies in pairs(links) do
    local user = load_user((parts_of(member)))
    if link(member, dependencies, on_failure(stored_header(member)), states) then
      cancel_deferred(user, member)
    end
  end
end

-- After the tasks. Returns whether something may be ready by it.
local function complete()
  link_the_rest()
  -- A gate that opens just now, or is given up, goes on with that, whatever a repeat of the push says.
  if opts.gate and not redis.call('ZSCORE', root .. 'releasing', opts.gate) then
    if opts.opens then
      redis.call('ZREM', root .. 'gates', opts.gate)
      redis.call('ZADD', root .. 'releasing', now_us, opts.gate)
    else
      redis.call('ZADD', root .. 'gates', now + opts.gate_ms, opts.gate)
    end
  end
  if opts.opens then
    release_waiting()
  end
  release_ended() -- of what was canceled at once
  return opts.opens
end
