-- The tasks at the head of several lanes are read together. `asked` has for each the owner (a user or a group), its key,
-- the user's name, and how many tasks; one more tells whether any are left. What is used of a lane, from the first one
-- on, leaves it together too, before anybody else looks at it.
local function read_lanes(asked)
  local batch = { members = {}, tasks = {}, runs = {} }
  for _, one in ipairs(asked) do
    local owner, key, name, size = unpack(one)
    local found = redis.call('ZRANGE', key, 0, size, 'WITHSCORES')
    local last, from = math.min(size, #found / 2), #batch.members
    for i = 1, last do
      local member = name .. ':' .. found[2 * i - 1]
      batch.members[from + i] = member
      batch.tasks[from + i], batch.runs[from + i] = root .. 'task:' .. member, root .. 'run:' .. member
    end
    if last > 0 then
      owner.lane = { key = key, found = found, used = 0, last = last, from = from, batch = batch }
    else
      owner.is_ready = false
    end
  end
  if batch.tasks[1] then
    batch.records = redis.call('MGET', unpack(batch.tasks))
    batch.are_new = redis.call('EXISTS', unpack(batch.runs)) == 0 -- then all are first attempts
  end
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
