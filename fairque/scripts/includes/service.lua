-- Service received in the running minute, for Jain's index (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984): each
-- user's, weighted, in its record (`service`, as "<minute>:<service>"); and of all of them what the index is made
-- of, so that reading it needs no scan. A user that is in the ring and was not served counts with nothing. (A part
-- that is defined when it is needed: see users.lua.)
local MINUTE_MS, KEPT_MS = 60000, 180000
local minute = math.floor(now / MINUTE_MS)
local served_now = { users = 0, sum = 0, squares = 0, ring = 0, starts = 0 } -- what this script adds

-- What the user received in this minute; false if it was not served.
local function received(user)
  if user.received == nil then
    local at, service = string.match(user.service or '', '^(%d+):(.*)$')
    user.received = tonumber(at) == minute and tonumber(service) or false
    user.is_counted = user.received and user.was_in_ring
  end
  return user.received
end

local function served(user, step, starts)
  local before = received(user)
  if not before then
    before = 0
    served_now.users = served_now.users + 1
  end
  local after = math.max(0, before + step)
  served_now.sum = served_now.sum + after - before
  served_now.squares = served_now.squares + after * after - before * before
  served_now.starts = served_now.starts + starts
  user.received = after
end

-- Of those in the ring, count the ones that have been served in this minute.
local function settle_service(user)
  local is_counted = received(user) and user.ring_v ~= nil
  if is_counted ~= user.is_counted then
    served_now.ring = served_now.ring + (is_counted and 1 or -1)
    user.is_counted = is_counted
  end
  if user.received then
    user.service = string.format('%d:%.17g', minute, user.received)
  end
end

local function begin_minute(key)
  redis.call('HSET', key, 'users', 0, 'sum', 0, 'squares', 0, 'ring', 0, 'starts', 0, 'since', now)
  redis.call('PEXPIRE', key, KEPT_MS)
  local last = root .. 'service:' .. string.format('%d', minute - 1)
  local in_ring = redis.call('HGET', last, 'ring')
  if in_ring then
    redis.call('HSET', last, 'unserved', math.max(0, redis.call('ZCARD', root .. 'ring') - tonumber(in_ring)))
  end
end

local function save_service()
  if served_now.users == 0 and served_now.sum == 0 and served_now.ring == 0 and served_now.starts == 0 then
    return
  end
  local key = root .. 'service:' .. string.format('%d', minute)
  local names = { 'users' }
  for name, by in pairs(served_now) do
    if by ~= 0 and name ~= 'users' then
      names[#names + 1] = name
    end
  end
  local known = redis.call('HMGET', key, unpack(names))
  if not known[1] then
    begin_minute(key)
  end
  local values = {}
  for i, name in ipairs(names) do
    values[2 * i - 1], values[2 * i] = name, (tonumber(known[i]) or 0) + served_now[name]
    served_now[name] = 0
  end
  redis.call('HSET', key, unpack(values))
end
