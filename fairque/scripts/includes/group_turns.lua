-- The turns of a user's groups in a claim. (A part of claim that is defined when it is needed.)
local FIRST_GROUPS = 8 -- of a user that are read at first

-- The group whose turn it is; nothing if none is left. They are read as the ring is, but a few at first: most
-- users of a batch have one turn.
local function group_in_turn(user)
  local queue = user.turns
  if not queue or not is_next(queue, queue.head) then
    local size = queue and 2 * queue.size or FIRST_GROUPS
    if queue then
      needed(groups).settle(user) -- groups that are drained leave their ring, and others move up
    end
    queue = queue_of('groups:' .. user.name, size, function(name, v)
      return needed(groups).load(user, name, v)
    end)
    queue.size = size
    user.turns = queue
  end
  return queue[queue.head]
end

-- The lane of the group whose turn it is, and the group; nothing if all are empty.
local function next_group(user)
  local group = group_in_turn(user)
  while group do
    group.is_touched = true
    read_lanes({ { group, lane_key(user.name, group.name), user.name, 1 } })
    if group.lane then
      return group.lane, group
    end
    user.turns.head = user.turns.head + 1
    group = group_in_turn(user)
  end
end

-- Its task was started: the group goes to where its new virtual time belongs.
local function end_turn(user, group)
  leave_lane(group)
  user.turns.head = user.turns.head + 1
  put_back(user.turns, group)
end
