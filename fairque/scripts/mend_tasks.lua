#!lua flags=allow-oom
-- mend_tasks: puts tasks where they belong, takes out what names no task, and removes what was left of it. Each is
-- judged anew. What the users' counters say then is repaired by mend_users.
--   options: retention, lease_ms, ageing_us
--   arguments: as for repair_tasks
-- Returns how many were mended.
--- @include "includes/shard"
--- @include "includes/repair_task"
--- @include "includes/release"

-- Out of every place but the right one.
local function take_out(task, place)
  for set in pairs(task.sets) do
    if set ~= place then
      redis.call('ZREM', root .. set, task.member)
    end
  end
  for group in pairs(task.lanes) do
    if place ~= 'lane' or group ~= task.own then
      take_out_of_lane(load_user(task.name), group, task.id)
    end
  end
end

local function put(task, place, score)
  if place == 'lane' then
    local user = load_user(task.name)
    put_in_lane(user, task.own, score or place_of(next_tick(), priority_of(task.header)), task.id)
    return
  end
  if task.sets[place] ~= score then
    redis.call('ZADD', root .. place, score, task.member)
  end
  if place == 'scheduled' then
    wake() -- it may be due before what an idle worker sleeps for
  elseif HAS_ENDED[place] and not task.sets[place] then
    redis.call('PUBLISH', root .. 'done:' .. task.member, place)
    ended[#ended + 1] = task.member
  end
end

local function mend_run(task, place)
  local key = root .. 'run:' .. task.member
  local drop, set = changes_of_run(task, place)
  if #drop > 0 then
    redis.call('HDEL', key, unpack(drop))
  end
  if #set > 0 then
    redis.call('HSET', key, unpack(set))
  end
  if place ~= 'leases' and task.sets.leases then
    redis.call('HDEL', key, 'charged', 'weight') -- the attempt is over, and nobody knows when it ended
  end
  if task.has_result and place ~= 'finished' then
    redis.call('UNLINK', root .. 'result:' .. task.member)
  end
end

-- Without its record a task cannot run. Those that depend on it are told, as of any end.
local function remove(task)
  take_out(task)
  if task.name then
    local member = task.member
    redis.call(
      'UNLINK', root .. 'task:' .. member, root .. 'run:' .. member, root .. 'result:' .. member,
      blockers_key(member)
    )
    ended[#ended + 1] = member
  end
end

local mended = 0
for i = 2, #ARGV, 2 do
  local task = look_at(ARGV[i], ARGV[i + 1])
  local kind, place, score = judge(task)
  if kind then
    mended = mended + 1
    if place then
      take_out(task, place)
      put(task, place, score)
      mend_run(task, place)
    else
      remove(task)
    end
  end
end
save_tick()
release_dependents()
settle_users()
return mended
