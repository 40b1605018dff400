#!lua
-- fire: pushes the tasks of schedules that are due, and moves each on to its next fire time, in one step: whoever comes
-- second finds it moved. One that cannot push does not stop the others; why is written down.
--   options: ageing_us, max_queued (of the whole queue; absent for no limit), by_hand (push now, whether due or not,
--   and move nothing)
--   arguments: for each schedule its member, the revision and the fire time that were seen, overlap (allow, or skip: no
--   task while the last one is live), next fire time, when that is due (both empty for none), the last fire time that
--   is dealt with, error (why there is no task; empty where there are), how many tasks; and for each task its id
--   (escaped) and record
-- Returns for each schedule how many of its tasks it has pushed, -1 where it is not as it was seen or not due, or why it
-- could not push.
--- @include "includes/shard"
--- @include "includes/tick"
--- @include "includes/header"
--- @include "includes/users"
--- @include "includes/waiting"
--- @include "includes/enter"
--- @include "includes/locate"
--- @include "includes/next_fire"

local IS_LIVE = { QUEUED = true, STARTED = true, SCHEDULED = true, DEFERRED = true }
local AGAIN_MS = 60000
local replies, pushed, ready, first_tick = {}, 0, false, nil

local function is_its_turn(shot)
  local known = redis.call('HMGET', shot.key, 'revision', 'fire')
  if not known[1] then -- its record is gone (evicted, or deleted by hand), and it would be due for ever
    forget_schedule(shot.member)
  end
  if known[1] ~= shot.revision then
    return false
  end
  local due = tonumber(redis.call('ZSCORE', root .. 'schedules', shot.member) or nil)
  return opts.by_hand or (time_in(known[2]) == shot.fire and due ~= nil and due <= now)
end

-- Not by HINCRBY: a number that was spoilt must not stop a script that has pushed.
local function add(shot, name, number)
  if number > 0 then
    redis.call('HSET', shot.key, name, (tonumber(redis.call('HGET', shot.key, name) or nil) or 0) + number)
  end
end

local function is_overlapping(shot)
  local last = shot.overlap == 'skip' and not opts.by_hand and redis.call('HGET', shot.key, 'last_task')
  return last and IS_LIVE[locate(shot.user .. ':' .. last) or '']
end

-- How many of its tasks it pushes. Where runs must not overlap, the first one is live when the next one would come.
local function most_of(shot)
  return shot.overlap == 'skip' and math.min(1, #shot.tasks) or #shot.tasks
end

-- Why its tasks cannot be pushed, as text; nothing if they can.
local function refusal(shot)
  if shot.error ~= '' then
    return shot.error
  end
  for _, task in ipairs(shot.tasks) do
    local readable, header = pcall(header_of, task.record)
    local problem = problem_of_header(readable and header)
    if problem then
      return 'BADTASK 0 ' .. problem
    end
    task.header = header
  end
  local user, coming = load_user(shot.user), most_of(shot)
  local of_user, of_queue = user.live - user.in_flight, opts.max_queued and queue_waiting() + pushed
  local function full(limit, waiting, name)
    return string.format('QUEUEFULL %.0f %.0f %.0f %s', limit, waiting, coming, name)
  end
  if opts.max_queued and of_queue + coming > opts.max_queued then
    return full(opts.max_queued, of_queue, '')
  end
  if user.policy.max_queued and of_user + coming > user.policy.max_queued then
    return full(user.policy.max_queued, of_user, shot.user)
  end
end

-- Push a task that the server does not know, at the end of the order so far.
local function push(shot, task)
  local user, member = load_user(shot.user), shot.user .. ':' .. task.id
  redis.call('HSET', shot.key, 'last_task', task.id)
  if not redis.call('SET', root .. 'task:' .. member, task.record, 'NX') then
    return 0
  end
  local tick = next_tick()
  first_tick = first_tick or tick
  user.live = user.live + 1
  ready = enter(user, member, task.header, tick, tick - first_tick) or ready
  pushed = pushed + 1
  return 1
end

local function push_all(shot)
  local number, most = 0, most_of(shot)
  for i = 1, most do
    number = number + push(shot, shot.tasks[i])
  end
  add(shot, 'fired', number)
  add(shot, 'skipped', #shot.tasks - most)
  return number
end

local function shoot(shot)
  local is_repeat = opts.by_hand and redis.call('EXISTS', root .. 'task:' .. shot.user .. ':' .. shot.tasks[1].id) == 1
  if is_repeat then
    return 1 -- its reply was lost
  end
  if shot.error == '' and is_overlapping(shot) then
    add(shot, 'skipped', #shot.tasks)
    return 0
  end
  local problem = refusal(shot)
  if problem then
    add(shot, 'failures', 1)
    redis.call('HSET', shot.key, 'last_error', problem, 'last_failed_at', now)
    return problem
  end
  return push_all(shot)
end

-- A time that was refused is made up for by the next one. The last one of all has none: it is tried again.
local function move_on(shot, is_refused)
  if is_refused and shot.next_fire == '' and shot.fire ~= '' then
    set_next_fire(shot.member, shot.fire, integer(now + AGAIN_MS))
    return
  end
  if shot.error == '' then
    redis.call('HSET', shot.key, 'last_fire', shot.last_fire)
  end
  set_next_fire(shot.member, shot.next_fire, shot.next_due)
end

local shots, at = {}, 2
while at <= #ARGV do
  local member, revision, fire, overlap, next_fire, next_due, last_fire, problem, size = unpack(ARGV, at, at + 8)
  local shot = {
    member = member, key = root .. 'schedule:' .. member, user = parts_of(member), revision = revision, fire = fire,
    overlap = overlap, next_fire = next_fire, next_due = next_due, last_fire = last_fire, error = problem, tasks = {},
  }
  at = at + 9
  for i = 1, tonumber(size) do
    shot.tasks[i], at = { id = ARGV[at], record = ARGV[at + 1] }, at + 2
  end
  shots[#shots + 1] = shot
end

for i, shot in ipairs(shots) do
  replies[i] = -1
  if is_its_turn(shot) then
    replies[i] = shoot(shot)
    if not opts.by_hand then
      move_on(shot, type(replies[i]) == 'string')
    end
  end
end
count('pushed', pushed)
if pushed > 0 then
  save_tick()
  settle_users()
end
if ready and not queue_is_paused then
  wake()
end
return replies
