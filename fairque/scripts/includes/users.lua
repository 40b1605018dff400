--- @include "includes/lane"
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
local GROUPS, SERVICE, POLICY = 10, 11, 12
local PLAIN_POLICY = { weight = 1 }
local queue_settings = redis.call('HMGET', root .. 'settings', 'default', 'paused')
local queue_is_paused = queue_settings[2] ~= false
local settings = { default = queue_settings[1] ~= '{}' and queue_settings[1] } -- nothing where it says nothing

-- What only some users have is defined only for them.
local function policies()
--- @include_inside "includes/policy"
  return { of = effective_policy, merge = merge, fields = FIELDS }
end

local function groups()
--- @include_inside "includes/groups"
  return { load = load_group, settle = settle_groups }
end

local function rates()
--- @include_inside "includes/rate"
  return { usable_from = usable_from, use_token = use_token, settle = settle_throttled }
end

local function services()
--- @include_inside "includes/service"
  return { served = served, settle = settle_service, save = save_service }
end

--- @include "includes/eligible"

-- `ring_v` is the user's score in the ring where the caller has read it already, false where it has none.
local function load_user(name, ring_v)
  local user = users[name]
  if user then
    return user
  end
  local stored = redis.call('HMGET', root .. 'user:' .. name, unpack(RECORD))
  for i = 1, GROUPS - 1 do
    stored[i] = stored[i] and tonumber(stored[i]) or 0
  end
  stored[GROUPS] = tonumber(stored[GROUPS]) -- nil where no task of the user has had a group
  stored[SERVICE] = stored[SERVICE] or nil
  local compiled = stored[POLICY] or nil
  if ring_v == nil then
    ring_v = redis.call('ZSCORE', root .. 'ring', name)
  end
  ring_v = tonumber(ring_v or nil) -- nil while not in the ring
  user = {
    name = name,
    stored = stored,
    ring_v = ring_v,
    was_in_ring = ring_v ~= nil,
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
    service = stored[SERVICE],
    compiled = compiled,
    policy = (compiled or settings.default) and needed(policies).of(compiled) or PLAIN_POLICY,
    was_live = stored[3],
    starts = 0, -- by this script
  }
  users[name] = user
  return user
end

-- Load the users of a batch, whose names may be there several times: the ring is asked once.
local function load_users(names)
  local new = {}
  for _, name in ipairs(names) do
    if users[name] == nil then
      new[#new + 1] = name
      users[name] = false
    end
  end
  for slice in slices(new) do
    for i, ring_v in ipairs(redis.call('ZMSCORE', root .. 'ring', unpack(slice))) do
      load_user(slice[i], ring_v)
    end
  end
end

-- Whether tasks of the user are ready. A script that has changed its lane may know it: `is_ready`.
local function has_ready(user)
  if user.known_groups then
    needed(groups).settle(user)
  end
  if user.groups then
    return redis.call('EXISTS', root .. 'groups:' .. user.name) == 1
  end
  if user.is_ready == nil then
    return redis.call('EXISTS', lane_key(user.name, '')) == 1
  end
  return user.is_ready
end

-- In the ring if eligible (it is added with the others, by `entries`); and in the index of users: with 0 while it has
-- live tasks, else with the time since when it has none; one with a policy stays.
local function settle_sets(user, floor, entries)
  if user.eligible then
    if not user.ring_v then
      user.v = math.max(user.v, floor) -- idling earns no credit, draining forgives no debt
    end
    if user.v ~= user.ring_v then
      entries[#entries + 1], entries[#entries + 2] = user.v, user.name
      user.ring_v = user.v
    end
  elseif user.ring_v then
    redis.call('ZREM', root .. 'ring', user.name)
    user.ring_v = nil
  end
  if user.live > 0 and user.was_live <= 0 then
    redis.call('ZADD', root .. 'users', 0, user.name)
  elseif user.live <= 0 and user.was_live > 0 then
    redis.call('ZADD', root .. 'users', user.compiled and '+inf' or now, user.name)
  end
  user.was_live = user.live
end

local function save_user(user)
  local stored, changed = user.stored, {}
  for i = 1, SERVICE do
    local value = user[RECORD[i]]
    if value ~= stored[i] then
      changed[#changed + 1], changed[#changed + 2] = RECORD[i], value
      stored[i] = value
    end
  end
  if changed[1] then
    redis.call('HSET', root .. 'user:' .. user.name, unpack(changed))
  end
end

-- The place where the ring's invariant is kept: every transition ends here for the users it touched.
local function settle_users()
  local entering = false
  for _, user in pairs(users) do
    user.eligible, user.due = eligible(user, has_ready(user))
    entering = entering or (user.eligible and not user.ring_v)
  end
  -- The virtual time at which users enter: the smallest in the ring, or where it is empty the largest served. It is
  -- read before any write, so that no order of users matters.
  local first = entering and redis.call('ZRANGE', root .. 'ring', 0, 0, 'WITHSCORES')
  local floor = entering and tonumber(first[2] or redis.call('HGET', root .. 'clock', 'floor') or 0)
  local entries = {}
  for _, user in pairs(users) do
    settle_sets(user, floor, entries)
    if user.due or user.throttled > 0 then
      needed(rates).settle(user)
    end
    if user.received ~= nil or (user.service and user.was_in_ring ~= (user.ring_v ~= nil)) then
      needed(services).settle(user)
    end
    user.was_in_ring = user.ring_v ~= nil
    save_user(user)
  end
  for slice in slices(entries) do
    redis.call('ZADD', root .. 'ring', unpack(slice))
  end
  if defined[services] then
    defined[services].save()
  end
  if entering and not queue_is_paused then
    wake()
  end
end
