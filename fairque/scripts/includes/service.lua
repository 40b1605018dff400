-- Service received in the running minute, for Jain's index (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984): each
-- user's, weighted, in its record; and of all of them what the index is made of, so that reading it needs no
-- scan. A user that is in the ring and was not served counts with nothing.
local MINUTE_MS, KEPT_MS = 60000, 180000
local minute = math.floor(now / MINUTE_MS)
local minute_fields = { 'users', 'sum', 'squares', 'ring', 'starts' }
local served_now = { users = 0, sum = 0, squares = 0, ring = 0, starts = 0 } -- what this script adds

-- In the record as "<minute>:<service>"; nil if it was not served in this minute.
local function service_from(text)
  local at, service = string.match(text or '', '^(%d+):(.*)$')
  return tonumber(at) == minute and tonumber(service) or nil
end

local function service_text(service)
  return string.format('%d:%.17g', minute, service)
end

local function served(user, step)
  if not user.service then
    user.service = 0
    served_now.users = served_now.users + 1
  end
  local before, after = user.service, math.max(0, user.service + step)
  served_now.sum = served_now.sum + after - before
  served_now.squares = served_now.squares + after * after - before * before
  user.service = after
end

-- Of those in the ring, count the ones that have been served in this minute.
local function count_in_ring(user)
  local is_counted = user.service ~= nil and user.ring_v ~= nil
  if is_counted ~= user.is_counted then
    served_now.ring = served_now.ring + (is_counted and 1 or -1)
    user.is_counted = is_counted
  end
end

local function begin_minute(key)
  redis.call('HSET', key, 'users', 0, 'since', now)
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
  local known = redis.call('HMGET', key, unpack(minute_fields))
  if not known[1] then
    begin_minute(key)
  end
  local values = {}
  for i, name in ipairs(minute_fields) do
    values[2 * i - 1], values[2 * i] = name, (tonumber(known[i]) or 0) + served_now[name]
    served_now[name] = 0
  end
  redis.call('HSET', key, unpack(values))
end
