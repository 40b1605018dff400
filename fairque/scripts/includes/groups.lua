-- Groups: the turns of a user go round its groups as the turns of the queue go round its users. `groups:<user>`
-- is their ring. A user none of whose tasks has had a group has one lane and no such ring; then user.groups is
-- nil, else it is the largest virtual time of a group that was served. (A part that is defined when it is needed: see
-- users.lua.)
local MOST_IDLE = 1000 -- drained groups that are remembered, of one user: those furthest ahead

local function group_floor(user)
  return tonumber(redis.call('ZRANGE', root .. 'groups:' .. user.name, 0, 0, 'WITHSCORES')[2] or user.groups)
end

-- `ring_v` is the group's score in the ring where the caller has read it already, and only looks. A drained
-- group is remembered while it is ahead of the floor; one that is not stands at the floor.
local function load_group(user, name, ring_v)
  user.known_groups = user.known_groups or {}
  local group = user.known_groups[name]
  if not group then
    group = { name = name, ring_v = ring_v or tonumber(redis.call('ZSCORE', root .. 'groups:' .. user.name, name)) }
    group.v = group.ring_v
    if not group.v then
      local kept = tonumber(redis.call('ZSCORE', root .. 'idle_groups:' .. user.name, name)) or 0
      group.v = math.max(kept, group_floor(user))
    end
    user.known_groups[name] = group
  end
  group.is_touched = group.is_touched or not ring_v
  return group
end

-- In the ring if and only if it has ready tasks: as settle_users() does it, one level down.
local function settle_groups(user)
  local ring, idle = root .. 'groups:' .. user.name, root .. 'idle_groups:' .. user.name
  local floor = group_floor(user)
  local drained = {}
  for name, group in pairs(user.known_groups) do
    if not group.is_touched then
      -- it was only looked at, or is settled
    elseif redis.call('EXISTS', lane_key(user.name, name)) == 1 then
      if not group.ring_v then
        group.v = math.max(group.v, floor)
      end
      if group.v ~= group.ring_v then
        redis.call('ZADD', ring, group.v, name)
        group.ring_v = group.v
      end
    else
      if group.ring_v then
        redis.call('ZREM', ring, name)
        group.ring_v = nil
      end
      drained[#drained + 1] = group
    end
    group.is_touched = false
  end
  floor = group_floor(user)
  for _, group in ipairs(drained) do
    redis.call('ZADD', idle, group.v, group.name)
  end
  redis.call('ZREMRANGEBYSCORE', idle, '-inf', floor)
  if #drained > 0 then
    redis.call('ZREMRANGEBYRANK', idle, 0, -1 - MOST_IDLE)
  end
end
