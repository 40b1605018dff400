-- Whose turn it is, and giving one task to it: the order of the ring, shares, lanes. (Only claim uses it.)
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
