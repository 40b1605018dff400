--- @include "includes/charge"
-- What a task will cost: one; or with `cost: time` the seconds that it will run, by a moving average of its
-- user's attempts at the same function, or at any ("") where this one is new. (A part that is defined when it is
-- needed.)
local FIRST_ESTIMATE = 0.1 -- seconds, for a user of whom nothing is known
local LEARNING = 0.2 -- how much of an estimate the latest run time makes
local MOST_FUNCTIONS = 100 -- that are told apart, of one user

-- The name only has to tell functions apart: it is taken as it stands in the JSON of the header.
local function function_of(header)
  return string.match(header, '^{"function":"(.-)"') or ''
end

local function known_costs(user, name)
  user.costs = user.costs or {}
  if user.costs[name] == nil then
    local stored = redis.call('HMGET', root .. 'costs:' .. user.name, name, '')
    user.costs[name], user.costs[''] = tonumber(stored[1]) or false, tonumber(stored[2]) or false
  end
  return user.costs
end

local function estimate(user, name)
  local costs = known_costs(user, name)
  return costs[name] or costs[''] or FIRST_ESTIMATE
end

-- A completed attempt tells how long its function takes.
local function learn_from(user, run, seconds)
  local name = function_of(redis.call('GETRANGE', root .. 'task:' .. run.member, 0, 255))
  local key, costs = root .. 'costs:' .. user.name, known_costs(user, name)
  local function average(known)
    return known and known + LEARNING * (seconds - known) or seconds
  end
  if name ~= '' and (costs[name] or redis.call('HLEN', key) < MOST_FUNCTIONS) then
    costs[name] = average(costs[name])
    redis.call('HSET', key, name, costs[name])
  end
  costs[''] = average(costs[''])
  redis.call('HSET', key, '', costs[''])
end

-- An attempt turns out to cost `seconds`. The weight is that of the dispatch: a refund is at most the charge.
local function correct(user, run, seconds)
  local weight = tonumber(redis.call('HGET', root .. 'run:' .. run.member, 'weight'))
  local step = step_of(seconds, weight) - step_of(run.charged, weight)
  user.v = user.v + step
  needed(services).served(user, step, 0)
  if user.groups and run.group then
    local group = needed(groups).load(user, run.group)
    group.v = group.v + (step_of(seconds, 1) - step_of(run.charged, 1))
  end
end
