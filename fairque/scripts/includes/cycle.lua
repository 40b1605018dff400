--- @include "includes/dependencies"
-- Whether a task would come to wait for itself. The search goes along open edges from both of its ends in turn, so
-- that the smaller side decides. A task that was canceled keeps its open edges, and waits for nothing any more.
local MOST_LOOKED_AT = 10000 -- edges

-- One side of the search: `near` gives the next ids after one, `from` says over which one an id was reached.
local function side_of(ids, near)
  local side = { near = near, reached = {}, from = {}, at = 1 }
  for i, id in ipairs(ids) do
    side.reached[i], side.from[id] = id, ''
  end
  return side
end

-- Go on by one id. Returns the first that is one of the goals, and how many were looked at.
local function advance(side, goals)
  local id = side.reached[side.at]
  side.at = side.at + 1
  local found = side.near(id)
  for _, other in ipairs(found) do
    if not side.from[other] then
      side.from[other] = id
      side.reached[#side.reached + 1] = other
      if goals[other] then
        return other, #found
      end
    end
  end
  return nil, #found
end

local function path_back(side, id)
  local path = {}
  while id and id ~= '' do
    path[#path + 1] = id
    id = side.from[id]
  end
  return path
end

local function cycle_error(name, path)
  return redis.error_reply('CYCLE ' .. name .. ':' .. table.concat(path, ':'))
end

local function add_all(list, more)
  for _, item in ipairs(more or {}) do
    list[#list + 1] = item
  end
  return list
end

local function deferred_of(name, ids)
  local found = {}
  for slice in slices(ids) do
    local members = {}
    for i, id in ipairs(slice) do
      members[i] = name .. ':' .. id
    end
    for i, score in ipairs(redis.call('ZMSCORE', root .. 'deferred', unpack(members))) do
      if score then
        found[#found + 1] = slice[i]
      end
    end
  end
  return found
end

-- Edges (dependencies by member) the other way round: dependents by member.
local function reversed(links)
  local dependents = {}
  for member, dependencies in pairs(links) do
    local name, id = parts_of(member)
    for _, dependency in ipairs(dependencies) do
      local other = name .. ':' .. dependency
      dependents[other] = add_all(dependents[other] or {}, { id })
    end
  end
  return dependents
end

local looked = 0 -- by all searches of the script

local function set_of(list)
  local set = {}
  for _, item in ipairs(list) do
    set[item] = true
  end
  return set
end

-- Look for a way from one of `dependencies` upstream to one of `ids`, which are none of them. `coming` and
-- `coming_dependents` have the edges that are not written down yet. Returns where the sides have met: the up side
-- and the id, or nothing and the down side and the id; or an error, fourth, if that would take too long.
local function search(name, dependencies, ids, coming, coming_dependents)
  local function upstream(of)
    local other = name .. ':' .. of
    local known = {}
    if redis.call('ZSCORE', root .. 'deferred', other) then
      known = redis.call('ZRANGEBYSCORE', blockers_key(other), OPEN, OPEN, 'LIMIT', 0, MOST_LOOKED_AT)
    end
    return add_all(known, coming[other])
  end
  local function downstream(of)
    local other = name .. ':' .. of
    local known = redis.call('ZRANGEBYSCORE', dependents_key(other), WAIT, RUN, 'LIMIT', 0, MOST_LOOKED_AT)
    return add_all(deferred_of(name, known), coming_dependents[other])
  end
  local up, down = side_of(dependencies, upstream), side_of(ids, downstream)
  local is_dependency, is_id = set_of(dependencies), set_of(ids)
  while up.reached[up.at] and down.reached[down.at] do
    local met, met_size = advance(up, is_id)
    if met then
      return up, nil, met
    end
    local reached, size = advance(down, is_dependency)
    if reached then
      return nil, down, reached
    end
    looked = looked + met_size + size
    if looked > MOST_LOOKED_AT then
      return nil, nil, nil, redis.error_reply('GRAPHTOOLARGE ' .. MOST_LOOKED_AT .. ' ' .. name .. ':' .. ids[1])
    end
  end
end

-- The error, if `member` may not depend on these.
local function find_cycle(member, dependencies, coming, coming_dependents)
  local name, id = parts_of(member)
  if set_of(dependencies)[id] then
    return cycle_error(name, { id, id })
  end
  local up, down, met, problem = search(name, dependencies, { id }, coming, coming_dependents)
  local path = {}
  if up then
    path = path_back(up, met)
  elseif down then
    local back = path_back(down, met)
    for i = #back, 1, -1 do
      path[#path + 1] = back[i]
    end
  else
    return problem
  end
  path[#path + 1] = id
  return cycle_error(name, path)
end
