--- @include "includes/wake"
-- Put a task in `scheduled` until `due` (microseconds). An idle worker sleeps until the earliest due time it
-- knows, so a new earliest one wakes it.
local function schedule(user, member, due)
  user.scheduled = user.scheduled + 1
  redis.call('ZADD', root .. 'scheduled', due, member)
  if redis.call('ZRANK', root .. 'scheduled', member) == 0 then
    wake()
  end
end
