--- @include "includes/header"
--- @include "includes/in_lane"
--- @include "includes/dependencies"
-- What repair thinks of a task: whether it is where it belongs, and its run fits that. All of it follows from the
-- task's record; a place without a record holds nothing that could run.
-- In several places the first of these counts. What has ended must not run again; what a worker holds must not run
-- twice; what waits for others, or for its time, must not run too early.
local SETS = { 'finished', 'failed', 'canceled', 'leases', 'deferred', 'scheduled' }
local HAS_ENDED = { finished = true, failed = true, canceled = true }
local RUN_FIELDS = {
  'attempt', 'started_at', 'finished_at', 'failures', 'crashes', 'weight', 'charged', 'claim', 'worker',
  'failure_type', 'error', 'spread', 'history',
}
local WHOLE_FIELDS, NUMBERS = 5, 7 -- how many of them, from the first on
local LARGEST = 2 ^ 53

-- What the scripts' times and places are: whole, and exact in a double.
local function is_exact(number)
  return number ~= nil and math.abs(number) < LARGEST and number % 1 == 0
end

local function fits(text, i)
  local number = tonumber(text)
  return i > NUMBERS or is_exact(number) or (i > WHOLE_FIELDS and number and math.abs(number) < math.huge)
end

local function run_of(member)
  local stored = redis.call('HMGET', root .. 'run:' .. member, unpack(RUN_FIELDS))
  local run, garbage = {}, {}
  for i, field in ipairs(RUN_FIELDS) do
    run[field] = stored[i] or nil
    if stored[i] and not fits(stored[i], i) then
      run[field], garbage[#garbage + 1] = nil, field
    end
  end
  run.place = tonumber(string.match(run.claim or '', '^(%-?%d+):%d+%+?$'))
  if run.claim and not is_exact(run.place) then
    run.claim, run.place, garbage[#garbage + 1] = nil, nil, 'claim'
  end
  if run.charged and not run.weight then
    run.charged, garbage[#garbage + 1] = nil, 'charged'
  end
  if run.history then
    local readable, history = pcall(cjson.decode, run.history)
    if not readable or type(history) ~= 'table' then
      garbage[#garbage + 1] = 'history'
    end
  end
  run.garbage = garbage
  return run
end

local function header_in(text)
  local readable, header = pcall(cjson.decode, text)
  local problem = problem_of_header(readable and header)
  return not problem and header or nil, problem
end

-- Everything that is known of a task. `group` is that of a lane in which its id was seen besides its own.
local function look_at(member, group)
  local colon = string.find(member, ':', 1, true)
  local task = { member = member, sets = {}, lanes = {}, places = 0, run = { garbage = {} } }
  for _, set in ipairs(SETS) do
    local score = redis.call('ZSCORE', root .. set, member)
    if score then
      task.sets[set], task.places = tonumber(score), task.places + 1
    end
  end
  if not colon then
    return task -- in sets only: no task can be called so
  end
  task.name, task.id = parts_of(member)
  task.text = stored_header_text(member)
  if task.text then
    task.header, task.problem = header_in(task.text)
  end
  local own = task.header and group_of(task.header) or ''
  for name in pairs({ [''] = true, [own] = true, [group or ''] = true }) do
    local score = redis.call('ZSCORE', lane_key(task.name, name), task.id)
    if score then
      task.lanes[name], task.places = tonumber(score), task.places + 1
    end
  end
  task.own, task.run = own, run_of(member)
  task.has_result = redis.call('EXISTS', root .. 'result:' .. member) == 1
  task.is_blocked = has_open_blocker(member)
  return task
end

-- How a task ended that is in no place, as far as its run and its result tell.
local function ending_in_traces(task)
  local run = task.run
  if run.failure_type then
    return 'failed'
  end
  if task.has_result then
    return 'finished'
  end
  if run.finished_at then
    return run.attempt and not run.spread and 'finished' or 'canceled'
  end
end

-- When (µs) a task was to start that is in no place: what pushed it told only its own clock's time.
local function start_of(header)
  if header.execute_after then
    return header.execute_after * 1000
  end
  return header.delay and header.created_at and (header.created_at + header.delay) * 1000 or 0
end

local function kept_until(task, set)
  return is_exact(task.sets[set]) and task.sets[set] or now + opts.retention[set]
end

-- Where a task with a record belongs, and its score there; no score means a new place in its lane.
local function belongs(task)
  local run, sets = task.run, task.sets
  local ending = task.places == 0 and ending_in_traces(task)
  for _, set in ipairs({ 'finished', 'failed', 'canceled' }) do
    if sets[set] or ending == set then
      return set, kept_until(task, set)
    end
  end
  if not task.header then
    return 'failed', kept_until(task, 'failed') -- no script could read it, and one of many would fail for it
  end
  if sets.leases and run.attempt and run.claim then
    return 'leases', is_exact(sets.leases) and sets.leases or now + opts.lease_ms
  end
  local start = task.places == 0 and not run.attempt and start_of(task.header) or 0
  if task.is_blocked and (sets.deferred or not run.attempt) then
    start = sets.deferred or sets.scheduled or start
    return 'deferred', is_exact(start) and start or now_us
  end
  local due = sets.scheduled or (next(task.lanes) == nil and (sets.deferred or start)) or 0
  if is_exact(due) and (sets.scheduled or due > now_us) then
    return 'scheduled', due
  end
  local at = task.lanes[task.own] or select(2, next(task.lanes)) or run.place
  return 'lane', is_exact(at or nil) and at or nil
end

-- What the run must not have, and what it must, where the task is in this place.
local function changes_of_run(task, place)
  local run, drop, set = task.run, { unpack(task.run.garbage) }, {}
  local function needs(field, value)
    if not run[field] then
      set[#set + 1], set[#set + 2] = field, value
    end
  end
  if run.failure_type and place ~= 'failed' then
    drop[#drop + 1] = 'failure_type'
  end
  if HAS_ENDED[place] then
    needs('finished_at', now)
  elseif run.finished_at then
    drop[#drop + 1] = 'finished_at'
  end
  if place == 'failed' then
    needs('failure_type', task.header and 'failed' or 'invalid')
    needs('error', task.problem and 'the record is damaged: ' .. task.problem or 'how it failed was lost')
  elseif place == 'leases' then
    needs('worker', '')
    needs('started_at', now)
  end
  return drop, set
end

local function is_leftover(task)
  local member = task.member
  if redis.call('EXISTS', root .. 'run:' .. member, root .. 'result:' .. member, blockers_key(member)) > 0 then
    return true
  end
  local is_awaited = redis.call('ZCOUNT', dependents_key(member), WAIT, RUN) > 0
  return not is_awaited and redis.call('EXISTS', dependents_key(member), root .. 'task:' .. member) > 0
end

-- What is wrong with a task, as a word; nothing for a sound one. And where it belongs, and its score there.
local function judge(task)
  if not task.text then
    return (task.places > 0 and 'lost') or (is_leftover(task) and 'leftovers') or nil
  end
  local place, score = belongs(task)
  local drop, set = changes_of_run(task, place)
  local kind
  local current = place == 'lane' and task.lanes[task.own] or task.sets[place]
  if task.places == 0 then
    kind = 'homeless'
  elseif task.places > 1 then
    kind = 'doubled'
  elseif not task.header and not HAS_ENDED[place] then
    kind = 'unreadable'
  elseif current == nil or current ~= score then
    kind = task.header and 'misplaced' or 'unreadable'
  elseif #drop > 0 or #set > 0 then
    kind = 'runs'
  elseif task.has_result and place ~= 'finished' then
    kind = 'leftovers'
  end
  return kind, place, score
end
