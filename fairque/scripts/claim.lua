#!lua flags=allow-oom
-- claim: QUEUED → STARTED, for a batch, in fair order. First promotes what is due. Tasks past their
-- expires_at go to the dead letter queue instead.
--   options: worker, limit, lease_ms, users (names to pick among; absent for all), steal, ageing_us, retention,
--   claimant and claim (who claims, unlike anyone else, and an id under which the claim may be repeated; absent
--   for one that is not)
-- Returns: milliseconds until a scheduled task is due (-1 for none), 1 if more is ready (2 if the claim
-- stopped at a limit of expired tasks and should be repeated), the time, and for
-- each task: member, attempt, place, failures, record.
--- @include "includes/shard"
--- @include "includes/promote"
--- @include "includes/pick"
--- @include "includes/charge"
--- @include "includes/end_task"

local PROMOTE_LIMIT = 200
-- Tasks that are popped but not started (expired or lost): in all, and of one user, so that a user whose
-- whole backlog has expired does not hold up the others.
local SKIP_LIMIT = 200
local SKIP_LIMIT_OF_USER = 50
local claim_key = opts.claimant and root .. 'claim:' .. opts.claimant
local reply, leases, started = { -1, 0, now }, {}, {}
local expired, skipped, unfinished, served = 0, 0, false, nil

local function give(member, attempt, place, failures, record)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = member, attempt, place, failures, record
end

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

local function expire(user, member)
  local attempt = tonumber(redis.call('HGET', root .. 'run:' .. member, 'attempt')) or 0
  local error = 'its expires_at passed before an attempt could start'
  fail_task(user, member, { attempt = attempt, type = 'expired', error = error })
  expired = expired + 1
end

local function start(user, member, place, record)
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'failures')
  local attempt = (tonumber(run[1]) or 0) + 1
  redis.call(
    'HSET', root .. 'run:' .. member,
    'attempt', attempt, 'place', place, 'worker', opts.worker, 'started_at', now
  )
  leases[#leases + 1], leases[#leases + 2] = now + opts.lease_ms, member
  started[#started + 1] = member
  served = math.max(served or user.v, user.v)
  charge(user, TASK_COST)
  user.in_flight = user.in_flight + 1
  give(member, attempt, place, tonumber(run[2]) or 0, record)
end

local function skip(user)
  user.skipped = (user.skipped or 0) + 1
  skipped = skipped + 1
end

-- Take the head of the user's lane: true if it started, false if it was skipped, nil if there was none.
local function take(user)
  local popped = redis.call('ZPOPMIN', root .. 'lane:' .. user.name)
  if not popped[1] then
    return nil
  end
  local member = user.name .. ':' .. popped[1]
  local record = redis.call('GET', root .. 'task:' .. member)
  if not record then
    drop_lost(user, member)
    skip(user)
    return false
  elseif has_expired(record) then
    expire(user, member)
    skip(user)
    return false
  end
  start(user, member, place_text(popped[2]), record)
  return true
end

-- Returns whether the users must be read again before the next pick.
local function take_in_order(queue)
  local head = 1
  while #started < opts.limit and skipped < SKIP_LIMIT and head <= #queue do
    local user = queue[head]
    if (user.skipped or 0) >= SKIP_LIMIT_OF_USER then
      unfinished = true
      head = head + 1
    else
      local taken = take(user)
      if taken ~= false then
        head = head + 1
      end
      if taken then
        requeue_user(queue, head, user)
      elseif taken == nil and user.skipped and not opts.users then
        return true -- it made room without a start: somebody beyond the users read may be next
      end
    end
  end
  return false
end

local function claim_in_fair_order()
  local skipped_before, read_again
  repeat
    skipped_before = skipped
    local queue = opts.users and first_users_among(opts.users) or first_users(opts.limit + skipped)
    read_again = take_in_order(queue)
    if read_again or skipped > skipped_before then
      settle_users() -- users that were drained without a start leave the ring, and others move up
    end
  until (not read_again and skipped == skipped_before) or #started >= opts.limit or skipped >= SKIP_LIMIT
  unfinished = unfinished or skipped >= SKIP_LIMIT
end

local function write_down()
  redis.call('ZADD', root .. 'leases', unpack(leases))
  local floor = tonumber(redis.call('HGET', root .. 'clock', 'floor')) or 0
  redis.call('HSET', root .. 'clock', 'floor', math.max(floor, served))
  if claim_key then
    redis.call('SET', claim_key, cjson.encode({ id = opts.claim, members = started }), 'PX', opts.lease_ms)
  end
end

-- A worker whose claim was not answered repeats it under the same id, and gets what it was given, as far as
-- it still holds the leases. So a lost reply costs neither a lease's time nor a crash on the task's account.
local function given_before()
  local stored = claim_key and redis.call('GET', claim_key)
  local last = stored and cjson.decode(stored)
  return last and last.id == opts.claim and last.members
end

local function give_again(member)
  local run = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'place', 'failures', 'worker')
  local record = redis.call('GET', root .. 'task:' .. member)
  if record and run[4] == opts.worker and redis.call('ZSCORE', root .. 'leases', member) then
    give(member, tonumber(run[1]), run[2], tonumber(run[3]) or 0, record)
  end
end

local given = given_before()
if given then
  for _, member in ipairs(given) do
    give_again(member)
  end
else
  if promote_due(PROMOTE_LIMIT) > 0 then
    settle_users()
  end
  claim_in_fair_order()
  if #started > 0 then
    write_down()
  end
  settle_users()
  count('started', #started)
  count('stolen', opts.steal and #started or 0)
  count('failed', expired)
  count('expired', expired)
end

reply[2] = redis.call('EXISTS', root .. 'ring')
local more = reply[2] == 1
if more and unfinished then
  reply[2] = 2
end
local next_due = redis.call('ZRANGE', root .. 'scheduled', 0, 0, 'WITHSCORES')[2]
if next_due then
  reply[1] = math.max(0, math.ceil((tonumber(next_due) - now_us) / 1000))
end
-- Whoever is idle beside this worker may take what is left, or watch the clock in its stead.
if more or (#started > 0 and next_due) then
  wake()
end
return reply
