--- @include "includes/eligible"
--- @include "includes/wake"
-- The users a script touches: each is loaded once, changed in memory, and written once by settle_users().
local users = {}

-- `ring_v` is the user's score in the ring where the caller has read it already.
local function load_user(name, ring_v)
  local user = users[name]
  if user then
    return user
  end
  ring_v = ring_v or tonumber(redis.call('ZSCORE', root .. 'ring', name))
  local stored = redis.call('HMGET', root .. 'user:' .. name, 'v', 'in_flight', 'live', 'weight')
  user = {
    name = name,
    ring_v = ring_v, -- nil while not in the ring
    v = ring_v or tonumber(stored[1]) or 0,
    in_flight = tonumber(stored[2]) or 0,
    live = tonumber(stored[3]) or 0,
    weight = tonumber(stored[4]) or 1,
  }
  user.was_live = user.live
  users[name] = user
  return user
end

-- A task whose record is gone (evicted, or deleted by hand) cannot run: it is dropped and counted.
local function drop_lost(user, member)
  redis.call('UNLINK', root .. 'run:' .. member)
  user.live = user.live - 1
  count('lost', 1)
end

-- The virtual time at which a user enters: the smallest in the ring, or where it is empty the last served.
local function ring_floor()
  local first = redis.call('ZRANGE', root .. 'ring', 0, 0, 'WITHSCORES')
  return tonumber(first[2] or redis.call('HGET', root .. 'clock', 'floor') or 0)
end

-- The place where the ring's invariant is kept: every transition ends here for the users it touched.
local function settle_users()
  local entering = false
  for name, user in pairs(users) do
    user.eligible = eligible(user, redis.call('ZCARD', root .. 'lane:' .. name))
    entering = entering or (user.eligible and not user.ring_v)
  end
  local floor = entering and ring_floor() -- before any write, so that no order of users matters
  for name, user in pairs(users) do
    if user.eligible then
      if not user.ring_v then
        user.v = math.max(user.v, floor) -- idling earns no credit, draining forgives no debt
      end
      if user.v ~= user.ring_v then
        redis.call('ZADD', root .. 'ring', user.v, name)
        user.ring_v = user.v
      end
    elseif user.ring_v then
      redis.call('ZREM', root .. 'ring', name)
      user.ring_v = nil
    end
    redis.call('HSET', root .. 'user:' .. name, 'v', user.v, 'in_flight', user.in_flight, 'live', user.live)
    -- The index of users: 0 while one has live tasks, else since when it has none.
    if user.live > 0 and user.was_live <= 0 then
      redis.call('ZADD', root .. 'users', 0, name)
    elseif user.live <= 0 and user.was_live > 0 then
      redis.call('ZADD', root .. 'users', now, name)
    end
    user.was_live = user.live
  end
  if entering then
    wake()
  end
end
