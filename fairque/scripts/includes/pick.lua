--- @include "includes/users"
-- Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): the eligible user with the smallest virtual time
-- is next. A batch of n picks reads the first n users once and goes on in memory: charges only grow, so none
-- further back can come first, until the next in memory stands behind all that was read.

-- The order of the ring: by virtual time, and where that is equal by bytes, as the server has it (`<` follows the locale).
-- What the names begin with in common is found by halves where it is long: names have up to 1024 bytes, and thousands
-- are compared.
local function before(one, other)
  if one.v ~= other.v or one.name == other.name then
    return one.v < other.v
  end
  local a, b = one.name, other.name
  for i = 1, 12 do
    local byte_of_a, byte_of_b = string.byte(a, i) or -1, string.byte(b, i) or -1
    if byte_of_a ~= byte_of_b then
      return byte_of_a < byte_of_b
    end
  end
  local same, step = 12, 512
  while step >= 1 do
    local till = same + step
    if till <= #a and till <= #b and string.sub(a, same + 1, till) == string.sub(b, same + 1, till) then
      same = till
    end
    step = step / 2
  end
  return (string.byte(a, same + 1) or -1) < (string.byte(b, same + 1) or -1)
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

-- Whether the entry at a place is next in the ring as well, and not only in what was read of it.
local function is_next(queue, place)
  local entry = queue[place]
  return queue.is_whole or (entry and not before(queue.last_read, entry))
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
