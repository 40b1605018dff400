#!lua flags=allow-oom
-- cleanup: terminal → gone, for tasks past their retention, unless others still depend on them; also workers that
-- stopped telling of themselves, graphs whose push was given up, and the records of users that have had no task for
-- a while.
--   options: limit, idle_user_ms, look_again_ms (for tasks that others depend on), retention, ageing_us
-- Returns how many tasks were removed, and 1 if there may be more to do at once.
--- @include "includes/shard"
--- @include "includes/downstream"

local EDGES_LIMIT = 1000 -- that one script removes
local LOOKS_LIMIT = 5000 -- dependents that one script looks at; a task of a graph costs as much as some of them
local LOOKS_OF_TASK = 10
local READERS_LIMIT = 100 -- dependents of one task that are looked at
local edges_left, looks_left = EDGES_LIMIT, LOOKS_LIMIT

-- The count of a user's failed tasks stands in its record, if it still has one.
local function forget_failed(member)
  local key = root .. 'user:' .. parts_of(member)
  if redis.call('EXISTS', key) == 1 then
    redis.call('HINCRBY', key, 'failed', -1)
  end
end

-- Those that still wait for a task that nobody has requeued will wait in vain: they are canceled.
local function give_up_waiting(member)
  if redis.call('ZCOUNT', dependents_key(member), WAIT, RUN) == 0 then
    return false
  end
  redis.call('HSETNX', root .. 'run:' .. member, 'spread', 'waiting')
  redis.call('ZADD', root .. 'releasing', 'NX', now_us, member)
  return true
end

-- Whether a dependent may still read the task's result: one that lives, or may be requeued.
local function may_be_read(member)
  local name, key = parts_of(member), dependents_key(member)
  local ids = redis.call('ZRANGEBYSCORE', key, SETTLED, SETTLED, 'LIMIT', 0, READERS_LIMIT)
  looks_left = looks_left - LOOKS_OF_TASK - #ids
  local others = {}
  for i, id in ipairs(ids) do
    others[i] = name .. ':' .. id
  end
  local states = states_of(others)
  for i, other in ipairs(others) do
    if states[other] == 'live' or states[other] == 'failed' then
      return true
    end
    redis.call('ZADD', key, ENDED, ids[i])
  end
  return #ids == READERS_LIMIT
end

-- Take the task off those it depended on, as far as the limit goes. Returns whether it is off all of them.
local function leave_dependencies(member)
  local name, id = parts_of(member)
  local dependencies = redis.call('ZRANGE', blockers_key(member), 0, edges_left - 1)
  for _, dependency in ipairs(dependencies) do
    redis.call('ZREM', dependents_key(name .. ':' .. dependency), id)
  end
  redis.call('ZREMRANGEBYRANK', blockers_key(member), 0, #dependencies - 1)
  edges_left = edges_left - #dependencies
  return edges_left > 0
end

-- Whether nothing depends on a task of a graph any more, nor it on others.
local function is_free(member, set)
  if edges_left <= 0 or looks_left <= 0 or redis.call('ZSCORE', root .. 'releasing', member) then
    return false
  end
  if give_up_waiting(member) or may_be_read(member) then
    redis.call('ZADD', root .. set, now + opts.look_again_ms, member)
    return false
  end
  return leave_dependencies(member)
end

local function some_have_edges(members)
  local keys = {}
  for _, member in ipairs(members) do
    keys[#keys + 1], keys[#keys + 2] = blockers_key(member), dependents_key(member)
  end
  for slice in slices(keys) do
    if redis.call('EXISTS', unpack(slice)) > 0 then
      return true
    end
  end
  return false
end

-- A graph whose push went no further for long: what has come of it is canceled.
for _, gate in ipairs(redis.call('ZRANGEBYSCORE', root .. 'gates', '-inf', now, 'LIMIT', 0, opts.limit)) do
  redis.call('ZADD', root .. 'releasing', 'NX', now_us, gate)
end
if redis.call('EXISTS', root .. 'releasing') == 1 then
  release_waiting()
end
settle_users()

local removed, is_more = 0, redis.call('EXISTS', root .. 'releasing') == 1
for _, set in ipairs({ 'finished', 'failed', 'canceled' }) do
  local due = redis.call('ZRANGEBYSCORE', root .. set, '-inf', now, 'LIMIT', 0, opts.limit - removed)
  local in_graphs = some_have_edges(due)
  is_more = is_more or #due == opts.limit - removed
  for _, member in ipairs(due) do
    if not in_graphs or is_free(member, set) then
      redis.call(
        'UNLINK', root .. 'task:' .. member, root .. 'run:' .. member, root .. 'result:' .. member,
        dependents_key(member)
      )
      redis.call('ZREM', root .. set, member)
      if set == 'failed' then
        forget_failed(member)
      end
      removed = removed + 1
    end
  end
end

redis.call('ZREMRANGEBYSCORE', root .. 'workers', '-inf', now)

-- A score of 0 marks a user with live tasks, an infinite one a user with a policy. Another that is idle for long
-- enters at the floor again, with or without a record. Its record counts its failed tasks, and stays with them; it
-- also stays until the bucket of a slow rate is full again, which a new record would begin with.
local function is_needed(name)
  local known = redis.call('HMGET', root .. 'user:' .. name, 'failed', 'full_at')
  return (tonumber(known[1]) or 0) > 0 or (needed(policies).of().rate ~= nil and (tonumber(known[2]) or 0) > now)
end

local idle = redis.call(
  'ZRANGEBYSCORE', root .. 'users', 1, now - opts.idle_user_ms, 'LIMIT', 0, opts.limit
)
for _, name in ipairs(idle) do
  if is_needed(name) then
    redis.call('ZADD', root .. 'users', now, name) -- looked at again when it has been idle for as long once more
  else
    redis.call('UNLINK', root .. 'user:' .. name, root .. 'costs:' .. name, root .. 'idle_groups:' .. name)
    redis.call('ZREM', root .. 'users', name)
  end
end
if edges_left <= 0 or looks_left <= 0 then
  is_more = true
end
return { removed, is_more and 1 or 0 }
