--- @include "includes/users"
local now_text = integer(now)

-- Tell the task's run, those who wait for it, and its user that it has ended.
local function announce_end(user, member, set)
  redis.call('HSET', root .. 'run:' .. member, 'finished_at', now_text)
  redis.call('PUBLISH', root .. 'done:' .. member, set)
  ended[#ended + 1] = member
  user.live = user.live - 1
end
