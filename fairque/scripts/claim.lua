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
--- @include "includes/promote"
--- @include "includes/pick"
--- @include "includes/charge"
--- @include "includes/cost"
--- @include "includes/fence"
--- @include "includes/end_task"
--- @include "includes/release"

local PROMOTE_LIMIT = 200
-- What is passed over: tasks that are popped but not started (expired or lost), and users that have to leave
-- the ring; in all, and tasks of one user, so that one whose whole backlog has expired does not hold up others.
local SKIP_LIMIT = 200
local SKIP_LIMIT_OF_USER = 50
local FIRST_GROUPS = 8 -- of a user that are read at first
local claim_key = opts.claimant and root .. 'claim:' .. opts.claimant
local claimed_us = integer(now_us)
local reply, leases, started = { -1, 0, now, '0', 0 }, {}, {}
local expired, skipped, unfinished, largest_v, charged = 0, 0, false, nil, 0

local function give(member, attempt, claim, failures, record)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = member, attempt, claim, failures, record
end

-- A task whose next crash makes it poisoned may have crashed only beside one that kills its worker. So it is the
-- last of its batch, and its worker starts nothing beside it: if that dies now, there is no doubt whose fault it is.
local function is_suspect(crashes)
  return crashes and tonumber(crashes) >= math.max(1, opts.max_crashes - 1)
end

-- Kept as text, which has all its digits, never an exponent.
local function place_text(score)
  return string.find(score, 'e', 1, true) and integer(tonumber(score)) or score
end

local function has_expired(header)
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

local function account_for(user, group, member, place, header)
  local cost = 1
  if opts.cost == 'time' then
    cost = estimate(user, function_of(header))
    redis.call('HSET', root .. 'run:' .. member, 'charged', cost, 'weight', user.policy.weight)
  end
  if group then
    redis.call('HSET', root .. 'run:' .. member, 'group', group.name)
  end
  local before = user.v
  largest_v = math.max(largest_v or before, before)
  charge(user, group, cost)
  charged = charged + user.v - before
  use_token(user)
  user.in_flight = user.in_flight + 1
  user.served = user.served + 1
  user.starts = user.starts + 1
  served_now.starts = served_now.starts + 1
  local priority = tonumber(string.match(header, '"priority":(%d)')) or NORMAL
  waited(user, (now_us - tick_of(tonumber(place), priority)) / 1000)
end

local function start(user, group, member, place, header, record)
  local last = redis.call('HMGET', root .. 'run:' .. member, 'attempt', 'failures', 'crashes')
  local attempt = (tonumber(last[1]) or 0) + 1
  redis.call(
    'HSET', root .. 'run:' .. member,
    'attempt', attempt, 'claimed_us', claimed_us, 'place', place, 'worker', opts.worker, 'started_at', now
  )
  account_for(user, group, member, place, header)
  leases[#leases + 1], leases[#leases + 2] = now + opts.lease_ms, member
  started[#started + 1] = member
  reply[5] = is_suspect(last[3]) and 1 or 0
  give(member, attempt, claim_text(place, claimed_us), tonumber(last[2]) or 0, record)
end

-- The group whose turn it is; nothing if none is left. They are read as the ring is, but a few at first: most
-- users of a batch have one turn.
local function next_group(user)
  local turns = user.turns
  if not turns or not is_next(turns, turns.head) then
    local size = turns and 2 * turns.size or FIRST_GROUPS
    if turns then
      settle_groups(user) -- groups that are drained leave their ring, and others move up
    end
    turns = first_groups(user, size)
    turns.size = size
    user.turns = turns
  end
  return turns[turns.head]
end

-- Pop the head of the user's lane, or of the lane of its group whose turn it is. Returns nothing if all are
-- empty.
local function pop(user)
  if not user.groups then
    return redis.call('ZPOPMIN', lane_key(user.name, ''))
  end
  local group = next_group(user)
  while group do
    group.is_touched = true
    local popped = redis.call('ZPOPMIN', lane_key(user.name, group.name))
    if popped[1] then
      return popped, group
    end
    take_first(user.turns)
    group = next_group(user)
  end
  return {}
end

-- Start the user's next task. Returns whether the user may be next again: not if it has nothing more, has
-- reached a limit, or has had its part of what is skipped.
local function serve(user)
  local popped, group = pop(user)
  if not popped[1] then
    return false
  end
  local member = user.name .. ':' .. popped[1]
  local record = redis.call('GET', root .. 'task:' .. member)
  local header = record and header_text(record)
  if record and not has_expired(header) then
    start(user, group, member, place_text(popped[2]), header, record)
    if group then
      take_first(user.turns)
      put_back(user.turns, group)
    end
    return eligible(user, 1)
  end
  if record then
    expire(user, member)
  else
    drop_lost(user, member)
  end
  user.skipped, skipped = (user.skipped or 0) + 1, skipped + 1
  unfinished = unfinished or user.skipped >= SKIP_LIMIT_OF_USER
  return user.skipped < SKIP_LIMIT_OF_USER
end

-- Whether one more task of the user keeps it within its share of the slots in use.
local leased
local function is_within_share(user)
  if not user.policy.share then
    return true
  end
  leased = leased or redis.call('ZCARD', root .. 'leases')
  local slots = user.policy.share * (leased + #started + 1) + 1e-9 -- 0.29 * 100 is a little less than 29
  return user.in_flight + 1 <= math.max(1, slots)
end

local queue, to_read = nil, opts.limit -- the ring, as far as it was read

local function read_ring()
  if queue then
    settle_users() -- users that are done leave the ring, and others move up
    to_read = 2 * to_read
  end
  queue = opts.users and first_users_among(opts.users) or first_users(to_read)
  for i = #queue, 1, -1 do
    local user = queue[i]
    if not user.is_done and not eligible(user, 1) then
      -- A new default policy no longer lets it in; it leaves when the users are settled.
      user.is_done, skipped = true, skipped + 1
    end
    if user.is_done then
      table.remove(queue, i)
    end
  end
end

-- Where in the queue the next user is: the first within its share, else the first, since then nobody else can
-- use the slot. Nothing if nobody is left, or too much was skipped.
local function next_in_queue()
  while skipped < SKIP_LIMIT do
    local place, last = queue.head, #queue
    while place <= last and not is_within_share(queue[place]) do
      place = place + 1
    end
    if queue.is_whole and place > last then
      place = queue.head
    end
    if is_next(queue, place) then
      return place <= last and place
    end
    read_ring() -- somebody beyond what was read may be next
  end
end

-- Where service has come to when a user is served at `v`: what a claim among some users gives goes past others
-- that still wait, and only up to these may it move somebody.
local first_outside
local function level_at(v)
  if not opts.users then
    return v
  end
  first_outside = first_outside or first_v_outside(opts.users)
  return math.min(v, first_outside)
end

-- Serve the user at a place of the queue. Who stands before it is passed over, being beyond its share, and gets
-- no credit for that: it moves up to where service has come to, or it would hold down the floor.
local function serve_at(place)
  local passed = place > queue.head and { unpack(queue, queue.head, place - 1) }
  queue.head = place
  local user = take_first(queue)
  local level, starts = passed and level_at(user.v), #started
  local again = serve(user)
  for _, other in ipairs(passed or {}) do
    other.v = #started > starts and math.max(other.v, level) or other.v
    put_back(queue, other)
  end
  if again then
    put_back(queue, user)
  else
    user.is_done = true
  end
end

local function claim_in_fair_order()
  read_ring()
  local place = next_in_queue()
  while place do
    serve_at(place)
    place = #started < opts.limit and reply[5] == 0 and next_in_queue()
  end
  unfinished = unfinished or skipped >= SKIP_LIMIT
end

local function write_down()
  redis.call('ZADD', root .. 'leases', unpack(leases))
  local floor = tonumber(redis.call('HGET', root .. 'clock', 'floor')) or 0
  redis.call('HSET', root .. 'clock', 'floor', math.max(floor, largest_v))
  if claim_key then
    redis.call('SET', claim_key, cjson.encode({ id = opts.claim, members = started }), 'PX', opts.lease_ms)
  end
end

local function count_stolen()
  for _, user in pairs(users) do
    if user.starts > 0 then
      redis.call('HINCRBY', root .. 'user:' .. user.name, 'stolen', user.starts)
    end
  end
  count('stolen', #started)
end

-- Users that this claim has drained were active too.
local function advance(active)
  for _, user in pairs(users) do
    if user.starts > 0 and not user.ring_v then
      active = active + 1
    end
  end
  return string.format('%.9g', charged / active)
end

-- A worker whose claim was not answered repeats it under the same id, and gets what it was given, as far as
-- it still holds the leases. So a lost reply costs neither a lease's time nor a crash on the task's account.
local function given_before()
  local stored = claim_key and redis.call('GET', claim_key)
  local last = stored and cjson.decode(stored)
  if last and last.id >= opts.claim then
    return last.id == opts.claim and last.members or {} -- an older one comes late: nobody waits for its answer
  end
end

local function give_again(member)
  local last = attempt_of(member)
  local more = redis.call('HMGET', root .. 'run:' .. member, 'failures', 'worker', 'crashes')
  local record = redis.call('GET', root .. 'task:' .. member)
  if record and more[2] == opts.worker and is_leased(member) then
    reply[5] = is_suspect(more[3]) and 1 or 0
    give(member, tonumber(last.number), last.claim, tonumber(more[1]) or 0, record)
  end
end

local may_be_left -- of releases
local given = given_before()
if given then
  for _, member in ipairs(given) do
    give_again(member)
  end
elseif not queue_is_paused then
  may_be_left = release_some()
  if promote_due(PROMOTE_LIMIT) + promote_throttled(PROMOTE_LIMIT) > 0 or next(users) then
    settle_users()
  end
  claim_in_fair_order()
  if #started > 0 then
    write_down()
  end
  may_be_left = may_be_left or ended[1] ~= nil
  unfinished = unfinished or ended[1] ~= nil -- what is released only now may be next
  release_dependents() -- of what has expired, or was lost
  settle_users()
  count('started', #started)
  if opts.steal then
    count_stolen()
  end
  count('failed', expired)
  count('expired', expired)
end
if queue_is_paused then
  return reply
end

local active = redis.call('ZCARD', root .. 'ring')
local more = active > 0
reply[2] = more and 1 or 0
if #started > 0 then
  reply[4] = advance(active)
end
if may_be_left and redis.call('EXISTS', root .. 'releasing') == 1 then
  more, unfinished = true, true
end
if more and unfinished then
  reply[2] = 2
end
local task_due = redis.call('ZRANGE', root .. 'scheduled', 0, 0, 'WITHSCORES')[2]
local user_due = redis.call('ZRANGE', root .. 'throttled', 0, 0, 'WITHSCORES')[2]
local next_due = math.min(task_due and task_due / 1000 or math.huge, tonumber(user_due) or math.huge)
if next_due < math.huge then
  reply[1] = math.max(0, math.ceil(next_due - now_us / 1000))
end
-- Whoever is idle beside this worker may take what is left, or watch the clock in its stead.
if more or (#started > 0 and next_due < math.huge) then
  wake()
end
return reply
