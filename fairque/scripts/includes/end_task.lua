--- @include "includes/announce"
-- Put a task in a terminal set (`finished`, `failed` or `canceled`) for its retention.
local function end_task(user, member, set)
  redis.call('ZADD', root .. set, now + opts.retention[set], member)
  announce_end(user, member, set)
end
