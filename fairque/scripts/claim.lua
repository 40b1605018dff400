#!lua flags=allow-oom
-- claim: QUEUED → STARTED, for a batch, in fair order. First promotes what is due, and goes on with releases. Tasks past their
-- expires_at go to the dead letter queue instead.
--   options: worker, limit, lease_ms, users (names to pick among; absent for all), steal, cost (tasks or time),
--   ageing_us, retention, max_crashes, claimant and claim (who claims, unlike anyone else, and an id under which the claim
--   may be repeated; absent for one that is not)
-- Returns: milliseconds until a scheduled task or a throttled user is due (-1 for none), 1 if more is ready
-- (2 if the claim should be repeated: it stopped at a limit, of expired tasks or of releases, or these released
-- some), the time, by how much virtual time has advanced, on an average of the active users, 1 if the last task given
-- should run alone, and for each task:
-- member, attempt, claim (as in includes/fence), failures, record.
--- @include "includes/shard"
--- @include "includes/record"
--- @include "includes/pick"
--- @include "includes/read_lane"
--- @include "includes/charge"
--- @include "includes/waits"

local PROMOTE_LIMIT = 200
-- What is passed over: tasks that are taken but not started (expired or lost), and users that have to leave
-- the ring; in all, and tasks of one user, so that one whose whole backlog has expired does not hold up others.
local SKIP_LIMIT = 200
local SKIP_LIMIT_OF_USER = 50
local MOST_READ = 100 -- tasks of a lane at once
local claim_key = opts.claimant and root .. 'claim:' .. opts.claimant
local claimed_us, claimed_at, expires = integer(now_us), integer(now), integer(now + opts.lease_ms)
local reply, leases, started = { -1, 0, now, '0', 0 }, {}, {}
local expired, skipped, unfinished, largest_v, charged = 0, 0, false, nil, 0

-- What only some claims need is defined only for them.
local function turns()
--- @include_inside "includes/group_turns"
  return { next = next_group, done = end_turn }
end

local function promotion()
--- @include_inside "includes/promote"
  return { promote_due = promote_due, promote_throttled = promote_throttled }
end

local function costs()
--- @include_inside "includes/cost"
  return { estimate = estimate, function_of = function_of }
end

local function endings()
--- @include_inside "includes/claim_endings"
  return { has_expired = has_expired, expire = expire, drop_lost = drop_lost }
end

local function releases()
--- @include_inside "includes/downstream"
  return { any = any_has_dependents, of_ended = release_ended, waiting = release_waiting }
end

local function among()
--- @include_inside "includes/pick_among"
  return { first_users = first_users_among, first_v_outside = first_v_outside }
end

local function settle()
  for _, user in pairs(users) do
    leave_lane(user)
  end
  settle_users()
end

--- @include "includes/start"
--- @include "includes/serve"

local function repeated()
--- @include_inside "includes/claim_again"
  return { give = give_again }
end

local function write_down()
  redis.call('ZADD', root .. 'leases', unpack(leases))
  local floor = tonumber(redis.call('HGET', root .. 'clock', 'floor')) or 0
  redis.call('HSET', root .. 'clock', 'floor', math.max(floor, largest_v))
  if claim_key then
    redis.call('SET', claim_key, cjson.encode({ id = opts.claim, members = started }), 'PX', opts.lease_ms)
  end
end

-- When the first scheduled task and the first throttled user are due (ms).
local function look_ahead()
  local task = redis.call('ZRANGE', root .. 'scheduled', 0, 0, 'WITHSCORES')[2]
  local user = redis.call('ZRANGE', root .. 'throttled', 0, 0, 'WITHSCORES')[2]
  return math.min(task and task / 1000 or math.huge, tonumber(user) or math.huge)
end

-- A worker whose claim was not answered repeats it under the same id, and gets what it was given, as far as
-- it still holds the leases. So a lost reply costs neither a lease's time nor a crash on the task's account.
local stored = claim_key and redis.call('GET', claim_key)
local last_claim = stored and cjson.decode(stored)
local is_repeated = last_claim and last_claim.id >= opts.claim
if is_repeated and last_claim.id == opts.claim then -- an older one comes late: nobody waits for its answer
  needed(repeated).give(last_claim.members)
end
if queue_is_paused then
  return reply
end

-- Most claims find nothing but ready tasks.
local is_more_to_do = redis.call('EXISTS', root .. 'releasing', root .. 'scheduled', root .. 'throttled') > 0
local next_due = is_more_to_do and look_ahead() or math.huge
local may_be_left = false -- of releases
if not is_repeated then
  may_be_left = is_more_to_do and redis.call('EXISTS', root .. 'releasing') == 1
  if may_be_left then
    needed(releases).waiting()
  end
  if next_due <= now_us / 1000 then
    needed(promotion).promote_due(PROMOTE_LIMIT)
    needed(promotion).promote_throttled(PROMOTE_LIMIT)
  end
  if next(users) then
    settle_users()
  end

  read_ring()
  local place = next_in_queue()
  while place do
    serve_at(place)
    place = #started < opts.limit and reply[5] == 0 and next_in_queue()
  end
  unfinished = unfinished or skipped >= SKIP_LIMIT

  if #started > 0 then
    write_down()
  end
  for _, user in pairs(users) do
    leave_lane(user)
  end
  if ended[1] then -- what is released only now may be next
    may_be_left, unfinished = true, true
    if needed(releases).any(ended) then
      needed(releases).of_ended()
    end
  end
  settle_users()
  count('started', #started)
  count('failed', expired)
  count('expired', expired)
end

local active = redis.call('ZCARD', root .. 'ring')
local more = active > 0
reply[2] = more and 1 or 0
if #started > 0 then
  local drained = 0 -- users that this claim has drained were active too
  for _, user in pairs(users) do
    if user.starts > 0 then
      drained = drained + (user.ring_v and 0 or 1)
      save_waits(user)
      if opts.steal then
        redis.call('HINCRBY', root .. 'user:' .. user.name, 'stolen', user.starts)
      end
    end
  end
  reply[4] = string.format('%.9g', charged / (active + drained))
  count('stolen', opts.steal and #started or 0)
end
if may_be_left and redis.call('EXISTS', root .. 'releasing') == 1 then
  more, unfinished = true, true
end
if more and unfinished then
  reply[2] = 2
end
if next_due < math.huge or defined[rates] or may_be_left then -- else nothing has come to these sets
  next_due = look_ahead()
end
if next_due < math.huge then
  reply[1] = math.max(0, math.ceil(next_due - now_us / 1000))
end
-- Whoever is idle beside this worker may take what is left, or watch the clock in its stead.
if more or (#started > 0 and next_due < math.huge) then
  wake()
end
return reply
