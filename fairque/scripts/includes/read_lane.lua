-- The tasks at the head of a lane are read together, `size` of them; one more tells whether any are left. They leave the
-- lane together too, before anybody else looks at it: those that were used, from the first one on.
local function read_lane(owner, key, name, size)
  local found = redis.call('ZRANGE', key, 0, size, 'WITHSCORES')
  local last = math.min(size, #found / 2)
  if last == 0 then
    owner.is_ready = false
    return nil
  end
  local members, tasks, runs = {}, {}, {}
  for i = 1, last do
    local member = name .. ':' .. found[2 * i - 1]
    members[i], tasks[i], runs[i] = member, root .. 'task:' .. member, root .. 'run:' .. member
  end
  owner.lane = {
    key = key, found = found, used = 0, last = last, members = members, runs = runs,
    records = redis.call('MGET', unpack(tasks)), are_new = redis.call('EXISTS', unpack(runs)) == 0,
  }
  return owner.lane
end

local function leave_lane(owner)
  local lane = owner.lane
  if lane then
    if lane.used > 0 then
      redis.call('ZREMRANGEBYRANK', lane.key, 0, lane.used - 1)
    end
    owner.is_ready = #lane.found > 2 * lane.used
    owner.lane = nil
  end
end
