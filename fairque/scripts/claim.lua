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

local function give(member, attempt, claim, failures, record)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = member, attempt, claim, failures, record
end

-- A task whose next crash makes it poisoned may have crashed only beside one that kills its worker. So it is the
-- last of its batch, and its worker starts nothing beside it: if that dies now, there is no doubt whose fault it is.
local function is_suspect(crashes)
  return crashes and tonumber(crashes) >= math.max(1, opts.max_crashes - 1)
end

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

local function repeated()
--- @include_inside "includes/claim_again"
  return { give = give_again }
end

local function settle()
  for _, user in pairs(users) do
    leave_lane(user)
  end
  settle_users()
end

local function start(user, group, member, key, place, header, record, is_new)
  local attempt, failures, cost = 1, 0, 1
  reply[5] = 0
  if not is_new then
    local last = redis.call('HMGET', key, 'attempt', 'failures', 'crashes')
    attempt, failures = (tonumber(last[1]) or 0) + 1, tonumber(last[2]) or 0
    reply[5] = is_suspect(last[3]) and 1 or 0
  end
  if opts.cost == 'time' then
    cost = needed(costs).estimate(user, needed(costs).function_of(header))
    redis.call('HSET', key, 'charged', cost, 'weight', user.policy.weight)
  end
  if group then
    redis.call('HSET', key, 'group', group.name)
  end
  local claim = place .. ':' .. claimed_us .. ((group or opts.cost == 'time') and '+' or '')
  redis.call('HSET', key, 'attempt', attempt, 'claim', claim, 'worker', opts.worker, 'started_at', claimed_at)
  local before = user.v
  largest_v = math.max(largest_v or before, before)
  charge(user, group, cost)
  charged = charged + user.v - before
  if user.policy.rate then
    needed(rates).use_token(user)
  end
  user.in_flight, user.served, user.starts = user.in_flight + 1, user.served + 1, user.starts + 1
  local at = string.find(header, '"priority":', 1, true)
  local priority = at and tonumber(string.sub(header, at + 11, at + 11)) or NORMAL
  waited(user, (now_us - tick_of(tonumber(place), priority)) / 1000)
  leases[#leases + 1], leases[#leases + 2] = expires, member
  started[#started + 1] = member
  give(member, attempt, claim, failures, record)
end

local queue, to_read = nil, opts.limit -- the ring, as far as it was read

-- Read the lane of a user, and with it those of the users behind, as many as will probably have a turn too. Of each as
-- much as it will probably get.
local function read_lanes_from(user)
  local asked, left = {}, opts.limit - #started
  local size = math.min(math.ceil(left / (#queue - queue.head + 2)), MOST_READ)
  local other, place = user, queue.head
  while other and #asked < left do
    local policy = other.policy
    if not (other.lane or other.groups) then
      local most = policy.rate and 1 or math.min(size, (policy.max_concurrency or math.huge) - other.in_flight)
      asked[#asked + 1] = { other, lane_key(other.name, ''), other.name, most }
    end
    other, place = queue[place], place + 1
  end
  read_lanes(asked)
end

-- The lane of the user's next task, or of the group whose turn it is; nothing if all are empty.
local function lane_of(user)
  if user.groups then
    return needed(turns).next(user)
  end
  if user.lane and user.lane.used == user.lane.last then
    leave_lane(user)
    if not user.is_ready then
      return nil
    end
  end
  if not user.lane then
    read_lanes_from(user)
  end
  return user.lane
end

-- Start the user's next task. Returns whether the user may be next again: not if it has nothing more, has
-- reached a limit, or has had its part of what is skipped.
local function serve(user)
  local lane, group = lane_of(user)
  if not lane then
    return false
  end
  lane.used = lane.used + 1
  local batch, i = lane.batch, lane.from + lane.used
  local member, place, record = batch.members[i], lane.found[2 * lane.used], batch.records[i]
  local header = record and header_text(record)
  if record and not (string.find(header, '"expires_at"', 1, true) and needed(endings).has_expired(header)) then
    if string.find(place, 'e', 1, true) then
      place = integer(tonumber(place)) -- kept as text, which has all its digits, never an exponent
    end
    start(user, group, member, batch.runs[i], place, header, record, batch.are_new)
    if group then
      needed(turns).done(user, group)
    end
    return eligible(user, true)
  end
  if group then
    leave_lane(group)
  end
  if record then
    needed(endings).expire(user, member)
    expired = expired + 1
  else
    needed(endings).drop_lost(user, member)
  end
  user.skipped, skipped = (user.skipped or 0) + 1, skipped + 1
  unfinished = unfinished or user.skipped >= SKIP_LIMIT_OF_USER
  return user.skipped < SKIP_LIMIT_OF_USER
end

-- Whether one more task of the user keeps it within its share of the slots in use.
local leased
local function is_within_share(user)
  leased = leased or redis.call('ZCARD', root .. 'leases')
  local slots = user.policy.share * (leased + #started + 1) + 1e-9 -- 0.29 * 100 is a little less than 29
  return user.in_flight + 1 <= math.max(1, slots)
end

local function read_ring()
  if queue then
    settle() -- users that are done leave the ring, and others move up
    to_read = 2 * to_read
  end
  queue = opts.users and needed(among).first_users(opts.users) or queue_of('ring', to_read, load_user)
  for i = #queue, 1, -1 do
    local user = queue[i]
    if not user.is_done and not eligible(user, true) then
      -- A new default policy no longer lets it in; it leaves when the users are settled.
      user.is_done, skipped = true, skipped + 1
    end
    if user.is_done then
      table.remove(queue, i)
    end
    user.waits = user.waits or {}
  end
end

-- Where in the queue the next user is: the first within its share, else the first, since then nobody else can
-- use the slot. Nothing if nobody is left, or too much was skipped.
local function next_in_queue()
  while skipped < SKIP_LIMIT do
    local place, last = queue.head, #queue
    while place <= last and queue[place].policy.share and not is_within_share(queue[place]) do
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
  first_outside = first_outside or needed(among).first_v_outside(opts.users)
  return math.min(v, first_outside)
end

-- Serve the user at a place of the queue. Who stands before it is passed over, being beyond its share, and gets
-- no credit for that: it moves up to where service has come to, or it would hold down the floor.
local function serve_at(place)
  local passed = place > queue.head and { unpack(queue, queue.head, place - 1) }
  local user = queue[place]
  queue.head = place + 1
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
