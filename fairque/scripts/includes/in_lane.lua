--- @include "includes/users"
-- Put a task in its lane; `group` is '' for none.
local function put_in_lane(user, group, place, id)
  if group ~= '' and not user.groups then
    user.groups = 0
    needed(groups).load(user, '') -- what has no group is a group of its own from now on
  end
  if user.groups then
    needed(groups).load(user, group)
  end
  redis.call('ZADD', lane_key(user.name, group), place, id)
  user.is_ready = true
end

local function take_out_of_lane(user, group, id)
  if user.groups then
    needed(groups).load(user, group)
  end
  redis.call('ZREM', lane_key(user.name, group), id)
  user.is_ready = nil
end
