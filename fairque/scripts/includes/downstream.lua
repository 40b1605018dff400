--- @include "includes/dependencies"
--- @include "includes/end_task"
--- @include "includes/lost"
-- What the end of a task means for those that depend on it (most scripts come here by includes/release). A script
-- settles the edges of what it has ended, up to a limit; the tasks that have more are in `releasing`, and every
-- claim settles some of theirs, in turn.
-- A canceled or failed task may say in its run how its end spreads: `waiting` cancels also those that would wait
-- (for it will not come back), `all` cancels everything downstream.
local RELEASE_LIMIT = 200 -- edges

-- How the task ended, and how that spreads; nothing if it lives again.
local function ending_of(member)
  local _, id = parts_of(member)
  if is_gate(id) then
    local is_closed = redis.call('ZSCORE', root .. 'gates', member) -- for too long: the push was given up
    return is_closed and 'canceled' or 'finished', 'all'
  end
  for _, set in ipairs({ 'finished', 'failed', 'canceled' }) do
    if redis.call('ZSCORE', root .. set, member) then
      return set, redis.call('HGET', root .. 'run:' .. member, 'spread')
    end
  end
  if redis.call('EXISTS', root .. 'task:' .. member) == 0 then
    return 'lost', 'waiting'
  end
end

-- Must be settled; its end is then one of those that this script has to release.
local function cancel_deferred(user, member, spread)
  undefer(user, member)
  if spread then
    redis.call('HSET', root .. 'run:' .. member, 'spread', spread)
  end
  end_task(user, member, 'canceled')
  count('canceled', 1)
end

local function meet(user, member, dependency)
  if is_gate(dependency) then
    redis.call('ZREM', blockers_key(member), dependency)
  else
    redis.call('ZADD', blockers_key(member), MET, dependency)
  end
  if has_open_blocker(member) then
    return
  end
  local header, start = stored_header(member), redis.call('ZSCORE', root .. 'deferred', member)
  undefer(user, member)
  if header then
    make_ready(user, member, header, tonumber(start))
  else
    drop_lost(user, member)
  end
end

-- Settle up to `budget` edges of an ended task. Returns how many there were, and whether these were all.
local function settle_dependents(member, budget)
  local name, dependency = parts_of(member)
  local ending, spread = ending_of(member)
  if not ending then
    return 0, true
  end
  local first = (ending == 'finished' or spread) and WAIT or CANCEL
  local key = dependents_key(member)
  local found = redis.call('ZRANGEBYSCORE', key, first, RUN, 'WITHSCORES', 'LIMIT', 0, budget)
  for i = 1, #found, 2 do
    local dependent, policy = name .. ':' .. found[i], tonumber(found[i + 1])
    redis.call('ZADD', key, SETTLED, found[i])
    if redis.call('ZSCORE', root .. 'deferred', dependent) then
      local cancels = spread == 'all' or policy == CANCEL or (spread and policy == WAIT)
      if ending ~= 'finished' and cancels then
        cancel_deferred(load_user(name), dependent, spread == 'all' and spread)
      else
        meet(load_user(name), dependent, dependency)
      end
    end
  end
  local is_all = #found < 2 * budget
  if is_all and (ending == 'lost' or is_gate(dependency)) then
    redis.call('ZREM', root .. 'gates', member)
    redis.call('UNLINK', key)
  end
  return #found / 2, is_all
end

local function release_ended()
  local budget, at, is_left = RELEASE_LIMIT, 1, false
  while ended[at] do -- a canceled dependent is added at the end
    local is_all = false
    if budget > 0 then
      local settled
      settled, is_all = settle_dependents(ended[at], budget)
      budget = budget - settled
    end
    if not is_all and redis.call('EXISTS', dependents_key(ended[at])) == 1 then
      redis.call('ZADD', root .. 'releasing', now_us, ended[at])
      is_left = true
    end
    at = at + 1
  end
  ended = {}
  save_tick()
  if is_left and not queue_is_paused then
    wake() -- the next claim goes on with it
  end
end

-- Go on with what earlier scripts left. Each in its turn gets a part: a task with very many dependents holds up
-- nobody else's.
local function release_waiting()
  local budget = RELEASE_LIMIT
  local member = redis.call('ZRANGE', root .. 'releasing', 0, 0)[1]
  while member and budget > 0 do
    local settled, is_all = settle_dependents(member, budget)
    budget = budget - math.max(1, settled)
    if is_all then
      redis.call('ZREM', root .. 'releasing', member)
    else
      redis.call('ZADD', root .. 'releasing', now_us, member)
    end
    member = redis.call('ZRANGE', root .. 'releasing', 0, 0)[1]
  end
  release_ended() -- of those that were canceled by that
  save_tick()
end
