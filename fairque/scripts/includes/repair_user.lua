--- @include "includes/own_policy"
--- @include "includes/glob"
-- What repair thinks of a user: whether its counters say where its tasks are, and what is derived from its tasks and its
-- policy follows from them.
local COUNTED = { 'in_flight', 'scheduled', 'deferred', 'failed' }
local SET_OF = { in_flight = 'leases', scheduled = 'scheduled', deferred = 'deferred', failed = 'failed' }
local NUMBERS = { 'v', 'full_at', 'throttled', 'served', 'busy_ms', 'throttled_ms', 'stolen', 'groups' }
local ALL = 10000000 -- entries: a whole set in one step

-- The next user in the arguments, from `i` on, and where the one after begins: name, the numbers of its tasks in the
-- sets, its lanes' groups.
local function argument(i)
  local given = { name = ARGV[i], numbers = {}, groups = { '' } }
  for k, field in ipairs(COUNTED) do
    given.numbers[field] = tonumber(ARGV[i + k])
  end
  local size = tonumber(ARGV[i + 5])
  for k = 1, size do
    given.groups[k + 1] = ARGV[i + 5 + k]
  end
  return given, i + 6 + size
end

-- Count the tasks of these users in the sets: all that changes a set changes the counters with it, so both are right in
-- one moment or never. One user is looked for by its name, which takes the server a tenth of the time.
local function count_exactly(all)
  local of = {}
  for _, given in ipairs(all) do
    of[given.name] = given.numbers
    for _, field in ipairs(COUNTED) do
      given.numbers[field] = 0
    end
  end
  local pattern = #all == 1 and glob_of(all[1].name) .. ':*' or '*'
  for _, field in ipairs(COUNTED) do
    local cursor = '0'
    repeat
      local step = redis.call('ZSCAN', root .. SET_OF[field], cursor, 'MATCH', pattern, 'COUNT', ALL)
      cursor = step[1]
      for i = 1, #step[2], 2 do
        local numbers = of[string.match(step[2][i], '^[^:]*')]
        if numbers then
          numbers[field] = numbers[field] + 1
        end
      end
    until cursor == '0'
  end
end

-- The lanes with tasks that the user has, and how many tasks are in them.
local function lanes_of(given)
  local found, total = {}, 0
  local ring = redis.call('ZRANGE', root .. 'groups:' .. given.name, 0, -1)
  for _, groups in ipairs({ given.groups, ring }) do
    for _, group in ipairs(groups) do
      local size = redis.call('ZCARD', lane_key(given.name, group))
      if size > 0 and not found[group] then
        found[group], total = true, total + size
      end
    end
  end
  return found, total, ring
end

local function is_json(text)
  local readable, value = pcall(cjson.decode, text)
  return readable and type(value) == 'table'
end

local function is_number(text)
  local number = tonumber(text)
  return number ~= nil and number == number and math.abs(number) < math.huge
end

-- Fields that no script could read, by key.
local function garbage_of(name)
  local found = { user = {}, policy = {} }
  for _, field in ipairs({ 'live', unpack(COUNTED), unpack(NUMBERS) }) do
    local value = redis.call('HGET', root .. 'user:' .. name, field)
    if value and not is_number(value) then
      table.insert(found.user, field)
    end
  end
  local compiled = redis.call('HGET', root .. 'user:' .. name, 'policy')
  if compiled and not is_json(compiled) then
    table.insert(found.user, 'policy')
  end
  for _, layer in ipairs({ 'live', 'configured' }) do
    local text = redis.call('HGET', root .. 'policy:' .. name, layer)
    if text and not is_json(text) then
      table.insert(found.policy, layer)
    end
  end
  return found
end

local function is_policy_right(name)
  local stored = redis.call('HMGET', root .. 'policy:' .. name, 'paused', 'live', 'configured')
  local text = redis.call('HGET', root .. 'user:' .. name, 'policy')
  if not (stored[1] or stored[2] or stored[3]) then
    return not text
  end
  local layers = stored[1] and { { paused = stored[1] == '1' } } or {}
  for i = 2, 3 do
    layers[#layers + 1] = stored[i] and cjson.decode(stored[i]) or nil
  end
  local expected, actual = needed(policies).merge(layers), text and cjson.decode(text)
  for _, field in ipairs(needed(policies).fields) do
    if not actual or expected[field] ~= actual[field] then
      return false
    end
  end
  return true
end

local function has_right_counters(user, given, ready)
  local numbers = given.numbers
  local live = ready + numbers.in_flight + numbers.scheduled + numbers.deferred
  local failed = tonumber(redis.call('HGET', root .. 'user:' .. user.name, 'failed') or 0)
  return user.in_flight == numbers.in_flight and user.scheduled == numbers.scheduled
    and user.deferred == numbers.deferred and failed == numbers.failed and user.live == live
end

local function has_right_groups(user, lanes, ring)
  local in_ring = {}
  for _, group in ipairs(ring) do
    in_ring[group] = true
    if not lanes[group] then
      return false
    end
  end
  for group in pairs(lanes) do
    if not (user.groups and in_ring[group]) and (user.groups or group ~= '') then
      return false
    end
  end
  return user.groups ~= nil or #ring == 0
end

-- In the ring if and only if it is eligible; one that its rate held back may be so again, and not be let back yet.
local function is_in_its_ring(user, ready)
  local policy, until_when = user.policy, redis.call('ZSCORE', root .. 'throttled', user.name)
  if (until_when ~= false) ~= (user.throttled > 0) then
    return false
  end
  local is_capped = policy.max_concurrency and user.in_flight >= policy.max_concurrency
  local is_eligible, due = eligible(user, ready > 0)
  if until_when and ready > 0 and policy.rate and not policy.paused and not is_capped then
    return not user.ring_v and is_number(until_when) and tonumber(until_when) <= (due or now)
  end
  return is_eligible == (user.ring_v ~= nil) and not until_when and not due
    and (not user.ring_v or (user.ring_v == user.stored[1] and is_number(user.ring_v)))
end

local function is_indexed(user)
  local score = tonumber(redis.call('ZSCORE', root .. 'users', user.name) or nil)
  if user.live > 0 or not score then
    return score == 0 and user.live > 0
  end
  return score > 0 and (score == math.huge) == (user.compiled ~= nil)
end

local OF_USER = { 'costs:', 'idle_groups:', 'groups:' }

local function has_leftovers(name)
  for _, kind in ipairs(OF_USER) do
    if redis.call('EXISTS', root .. kind .. name) == 1 then
      return true
    end
  end
  for _, set in ipairs({ 'ring', 'throttled', 'users' }) do
    if redis.call('ZSCORE', root .. set, name) then
      return true
    end
  end
  return false
end
