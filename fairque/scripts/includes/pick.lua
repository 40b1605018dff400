--- @include "includes/users"
-- Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): the eligible user with the smallest virtual time
-- is next. A batch of n picks reads the first n users once and goes on in memory: charges only grow, so none
-- further back can come first, until the next in memory stands behind all that was read.

-- The order of the ring among equal virtual times: by bytes, as the server has it (`<` follows the locale). What
-- the names begin with in common is found by halves: names have up to 1024 bytes, and thousands are compared.
local function bytes_before(a, b)
  local same, step = 0, 512
  while step >= 1 do
    local till = same + step
    if till <= #a and till <= #b and string.sub(a, same + 1, till) == string.sub(b, same + 1, till) then
      same = till
    end
    step = step / 2
  end
  return (string.byte(a, same + 1) or -1) < (string.byte(b, same + 1) or -1)
end

local function before(a, b)
  if a.v ~= b.v then
    return a.v < b.v
  end
  return a.name ~= b.name and bytes_before(a.name, b.name)
end

-- A queue of users, or of the groups of one: in order from `head` on, and whether it is the whole ring or up to
-- where that was read.
local function queue_of(ring, limit, load)
  local found = redis.call('ZRANGE', root .. ring, 0, limit - 1, 'WITHSCORES')
  local queue = { head = 1, is_whole = #found < 2 * limit }
  for i = 1, #found, 2 do
    queue[#queue + 1] = load(found[i], tonumber(found[i + 1]))
  end
  local last = queue[#queue]
  queue.last_read = last and { v = last.v, name = last.name }
  return queue
end

local function first_users(limit)
  return queue_of('ring', limit, load_user)
end

local function first_users_among(names)
  local queue = { head = 1, is_whole = true }
  for _, name in ipairs(names) do
    local v = redis.call('ZSCORE', root .. 'ring', name)
    if v then
      queue[#queue + 1] = load_user(name, tonumber(v))
    end
  end
  table.sort(queue, before)
  return queue
end

-- The smallest virtual time in the ring of a user that is not among these.
local function first_v_outside(names)
  local among = {}
  for _, name in ipairs(names) do
    among[name] = true
  end
  local found = redis.call('ZRANGE', root .. 'ring', 0, #names, 'WITHSCORES')
  for i = 1, #found, 2 do
    if not among[found[i]] then
      return tonumber(found[i + 1])
    end
  end
  return math.huge
end

local function first_groups(user, limit)
  return queue_of('groups:' .. user.name, limit, function(name, v)
    return load_group(user, name, v)
  end)
end

-- Whether the entry at a place is next in the ring as well, and not only in what was read of it.
local function is_next(queue, place)
  local entry = queue[place]
  return queue.is_whole or (entry and not before(queue.last_read, entry))
end

local function take_first(queue)
  local entry = queue[queue.head]
  queue.head = queue.head + 1
  return entry
end

-- Put a charged user or group back where its new virtual time belongs.
local function put_back(queue, entry)
  local i = #queue
  while i >= queue.head and before(entry, queue[i]) do
    queue[i + 1] = queue[i]
    i = i - 1
  end
  queue[i + 1] = entry
end
