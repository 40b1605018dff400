--- @include "includes/policy"
--- @include "includes/eligible"
--- @include "includes/groups"
--- @include "includes/service"
--- @include "includes/waits"
--- @include "includes/wake"
-- The users a script touches: each is loaded once, changed in memory, and what changed is written by
-- settle_users().
local users = {}
-- The tasks that this script has ended: those that depend on them are told (includes/release).
local ended = {}
-- The fields of `user:<user>`: numbers, 0 where absent; then these three.
local RECORD = {
  'v', 'in_flight', 'live', 'scheduled', 'deferred', 'full_at', 'throttled', 'served', 'busy_ms',
  'groups', 'service', 'policy',
}
local GROUPS, SERVICE, POLICY_TEXT = 10, 11, 12

-- `ring_v` is the user's score in the ring where the caller has read it already.
local function load_user(name, ring_v)
  local user = users[name]
  if user then
    return user
  end
  local stored = redis.call('HMGET', root .. 'user:' .. name, unpack(RECORD))
  for i = 1, GROUPS - 1 do
    stored[i] = tonumber(stored[i]) or 0
  end
  stored[GROUPS] = tonumber(stored[GROUPS]) -- nil where no task of the user has had a group
  ring_v = ring_v or tonumber(redis.call('ZSCORE', root .. 'ring', name)) -- nil while not in the ring
  local service = service_from(stored[SERVICE])
  user = {
    name = name,
    stored = stored,
    ring_v = ring_v,
    v = ring_v or stored[1],
    in_flight = stored[2],
    live = stored[3],
    scheduled = stored[4],
    deferred = stored[5],
    full_at = stored[6],
    throttled = stored[7],
    served = stored[8],
    busy_ms = stored[9],
    groups = stored[GROUPS],
    service = service,
    compiled = stored[POLICY_TEXT] or nil,
    policy = effective_policy(stored[POLICY_TEXT]),
    was_live = stored[3],
    is_counted = service ~= nil and ring_v ~= nil,
    starts = 0, -- by this script
  }
  users[name] = user
  return user
end

local function save_user(user)
  local stored, changed = user.stored, {}
  for i = 1, GROUPS do
    local value = user[RECORD[i]]
    if value ~= stored[i] then
      changed[#changed + 1], changed[#changed + 2] = RECORD[i], value
      stored[i] = value
    end
  end
  local service = user.service and service_text(user.service)
  if service and service ~= stored[SERVICE] then
    changed[#changed + 1], changed[#changed + 2] = 'service', service
    stored[SERVICE] = service
  end
  if changed[1] then
    redis.call('HSET', root .. 'user:' .. user.name, unpack(changed))
  end
end

-- The index of users: 0 while one has live tasks, else since when it has none; one with a policy stays.
local function index_user(user)
  if user.live > 0 and user.was_live <= 0 then
    redis.call('ZADD', root .. 'users', 0, user.name)
  elseif user.live <= 0 and user.was_live > 0 then
    redis.call('ZADD', root .. 'users', user.compiled and '+inf' or now, user.name)
  end
  user.was_live = user.live
end

-- A task whose record is gone (evicted, or deleted by hand) cannot run: it is dropped and counted.
local function drop_lost(user, member)
  redis.call('UNLINK', root .. 'run:' .. member, root .. 'blockers:' .. member)
  ended[#ended + 1] = member
  user.live = user.live - 1
  count('lost', 1)
end

-- The virtual time at which a user enters: the smallest in the ring, or where it is empty the largest served.
local function ring_floor()
  local first = redis.call('ZRANGE', root .. 'ring', 0, 0, 'WITHSCORES')
  return tonumber(first[2] or redis.call('HGET', root .. 'clock', 'floor') or 0)
end

local function settle_in_ring(user, floor)
  if user.eligible then
    if not user.ring_v then
      user.v = math.max(user.v, floor) -- idling earns no credit, draining forgives no debt
    end
    if user.v ~= user.ring_v then
      redis.call('ZADD', root .. 'ring', user.v, user.name)
      user.ring_v = user.v
    end
  elseif user.ring_v then
    redis.call('ZREM', root .. 'ring', user.name)
    user.ring_v = nil
  end
end

-- In `throttled` while nothing but its rate holds the user back. An idle worker sleeps until the first of them
-- comes back, so a new first one wakes it, and so does a new time of the first.
local function settle_throttled(user)
  if user.due then
    local is_changed = redis.call('ZADD', root .. 'throttled', 'CH', user.due, user.name) == 1
    if is_changed and redis.call('ZRANK', root .. 'throttled', user.name) == 0 then
      wake()
    end
    if user.throttled == 0 then
      user.throttled = now
    end
  elseif user.throttled > 0 then
    local due = tonumber(redis.call('ZSCORE', root .. 'throttled', user.name)) or now
    local till = math.min(now, math.ceil(due)) -- from then on nobody came to let it back
    redis.call('ZREM', root .. 'throttled', user.name)
    redis.call('HINCRBY', root .. 'user:' .. user.name, 'throttled_ms', math.max(0, till - user.throttled))
    user.throttled = 0
  end
end

-- The place where the ring's invariant is kept: every transition ends here for the users it touched.
local function settle_users()
  local entering = false
  for _, user in pairs(users) do
    user.eligible, user.due = eligible(user, ready_of(user))
    entering = entering or (user.eligible and not user.ring_v)
  end
  local floor = entering and ring_floor() -- before any write, so that no order of users matters
  for _, user in pairs(users) do
    settle_in_ring(user, floor)
    if user.due or user.throttled > 0 then
      settle_throttled(user)
    end
    count_in_ring(user)
    if user.waits then
      save_waits(user)
    end
    save_user(user)
    index_user(user)
  end
  save_service()
  if entering and not queue_is_paused then
    wake()
  end
end
