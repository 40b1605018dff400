#!lua flags=allow-oom
-- claim: QUEUED → STARTED, for a batch, in fair order. First promotes what is due. Tasks past their
-- expires_at go to the dead letter queue instead.
--   options: worker, limit, lease_ms, users (names to pick among; absent for all), steal, ageing_us, retention
-- Returns: milliseconds until a scheduled task is due (-1 for none), 1 if more is ready, the time, and for
-- each task: member, attempt, place, failures, record.
--- @include "includes/shard"
--- @include "includes/promote"
--- @include "includes/pick"
--- @include "includes/charge"
--- @include "includes/end_task"

local PROMOTE_LIMIT = 200
local SKIP_LIMIT = 200 -- tasks that are popped but not started

if promote_due(PROMOTE_LIMIT) > 0 then
  settle_users()
end

local reply, leases = { -1, 0, now }, {}
local taken, expired, skipped, served = 0, 0, 0, nil

-- The place goes into the fence, which compares text: always the same digits, never an exponent.
local function place_text(score)
  return string.find(score, 'e', 1, true) and integer(tonumber(score)) or score
end

local function has_expired(record)
  local header = string.match(record, '^[^\n]*')
  if not string.find(header, '"expires_at"', 1, true) then
    return false -- the common case costs no decoding
  end
  local expires_at = cjson.decode(header).expires_at
  return type(expires_at) == 'number' and expires_at <= now
end

local function start(user, member, place, record)
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'failures')
  local attempt = (tonumber(run[1]) or 0) + 1
  redis.call(
    'HSET', root .. 'run:' .. member,
    'attempt', attempt, 'place', place, 'worker', opts.worker, 'started_at', now
  )
  leases[#leases + 1], leases[#leases + 2] = now + opts.lease_ms, member
  served = math.max(served or user.v, user.v)
  charge(user, TASK_COST)
  user.in_flight = user.in_flight + 1
  taken = taken + 1
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = member, attempt, place
  reply[n + 4], reply[n + 5] = tonumber(run[2]) or 0, record
end

local queue = opts.users and first_users_among(opts.users) or first_users(opts.limit)
local head = 1
while taken < opts.limit and skipped < SKIP_LIMIT and head <= #queue do
  local user = queue[head]
  local popped = redis.call('ZPOPMIN', root .. 'lane:' .. user.name)
  if not popped[1] then
    head = head + 1 -- drained
  else
    local member, place = user.name .. ':' .. popped[1], place_text(popped[2])
    local record = redis.call('GET', root .. 'task:' .. member)
    if not record then
      drop_lost(user, member)
      skipped = skipped + 1
    elseif has_expired(record) then
      expired, skipped = expired + 1, skipped + 1
      local attempt = tonumber(redis.call('HGET', root .. 'run:' .. member, 'attempt')) or 0
      local error = 'it had not started when its expires_at passed'
      fail_task(user, member, { attempt = attempt, type = 'expired', error = error })
    else
      start(user, member, place, record)
      head = head + 1
      requeue_user(queue, head, user)
    end
  end
end

if #leases > 0 then
  redis.call('ZADD', root .. 'leases', unpack(leases))
  local floor = tonumber(redis.call('HGET', root .. 'clock', 'floor')) or 0
  redis.call('HSET', root .. 'clock', 'floor', math.max(floor, served))
end
settle_users()
count('started', taken)
count('stolen', opts.steal and taken or 0)
count('failed', expired)
count('expired', expired)

local more = redis.call('EXISTS', root .. 'ring')
local next_due = redis.call('ZRANGE', root .. 'scheduled', 0, 0, 'WITHSCORES')[2]
-- Whoever is idle beside this worker may take what is left, or watch the clock in its stead.
if more == 1 or (taken > 0 and next_due) then
  wake()
end
if next_due then
  reply[1] = math.max(0, math.ceil((tonumber(next_due) - now_us) / 1000))
end
reply[2] = more
return reply
