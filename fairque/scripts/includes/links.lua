--- @include "includes/dependencies"
--- @include "includes/cycle"
-- What a push says of dependencies (`depends_on`: ids by member), checked before anything is written.

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
  local is_new, is_pushed, links = {}, {}, {}
  for i = 1, size do
    local member = ARGV[3 * i - 1] .. ':' .. ARGV[3 * i]
    is_pushed[member] = true
    is_new[member] = redis.call('EXISTS', root .. 'task:' .. member) == 0
  end
  for member, dependencies in pairs(opts.depends_on) do
    if is_new[member] or (not is_pushed[member] and is_held_by_gate(member)) then
      links[member] = dependencies
    end
  end
  return links, is_new
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

-- A new task closes a cycle only where others wait for it already.
local function cycle_through(links)
  local dependents
  for member, dependencies in pairs(links) do
    if redis.call('EXISTS', dependents_key(member)) == 1 then
      dependents = dependents or reversed(links)
      local problem = find_cycle(member, dependencies, links, dependents)
      if problem then
        return problem
      end
    end
  end
end

-- Returns the links that count and the states of what they lead to; or nothing, and the error.
local function read_links(size)
  opts.depends_on = opts.depends_on or {}
  if not next(opts.depends_on) and not opts.check then
    return {}, {}
  end
  local links, is_new = new_links(size)
  if opts.check then
    local _, problem = known_states(opts.check, is_new)
    if problem then
      return nil, problem
    end
  end
  local states, problem = known_states(links, is_new)
  problem = problem or cycle_through(links)
  if problem then
    return nil, problem
  end
  return links, states
end
