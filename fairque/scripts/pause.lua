#!lua flags=allow-oom
-- pause: stops dispatch of the whole queue, or lets it go on. What runs is not touched.
--   options: paused
-- Returns 1.
--- @include "includes/shard"
--- @include "includes/wake"

if opts.paused then
  redis.call('HSET', root .. 'settings', 'paused', 1)
else
  redis.call('HDEL', root .. 'settings', 'paused')
  wake()
end
return 1
