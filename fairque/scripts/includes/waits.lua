-- How long tasks waited: a histogram for each user and period, four buckets for each doubling of the time, so at
-- most some 130 of them. Two periods are kept, for "recently".
local PERIOD_MS = 300000

local period = math.floor(now / PERIOD_MS)

local function waits_key(name, periods_ago)
  return root .. 'waits:' .. name .. ':' .. period - periods_ago
end

local function waited(user, wait)
  local bucket = wait < 1 and 0 or math.floor(4 * math.log(wait) / math.log(2)) + 1
  user.waits[bucket] = (user.waits[bucket] or 0) + 1
end

local function save_waits(user)
  local key = waits_key(user.name, 0)
  for bucket, number in pairs(user.waits) do
    if redis.call('HINCRBY', key, bucket, number) == number then -- a new field, and so perhaps a new key
      redis.call('PEXPIRE', key, 2 * PERIOD_MS)
    end
  end
end
