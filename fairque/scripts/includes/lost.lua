--- @include "includes/users"
-- A task whose record is gone (evicted, or deleted by hand) cannot run: it is dropped and counted.
local function drop_lost(user, member)
  redis.call('UNLINK', root .. 'run:' .. member, root .. 'blockers:' .. member)
  ended[#ended + 1] = member
  user.live = user.live - 1
  count('lost', 1)
end
