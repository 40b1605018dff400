#!lua flags=no-writes
-- users: a page of the users the shard knows, those with live tasks first.
--   options: limit, offset
-- Returns for each: name, ready, in flight, live, virtual time, 1 if eligible (in the ring).
--- @include "includes/shard"

local page = {}
for _, name in ipairs(redis.call('ZRANGE', root .. 'users', opts.offset, opts.offset + opts.limit - 1)) do
  local stored = redis.call('HMGET', root .. 'user:' .. name, 'in_flight', 'live', 'v')
  local ring_v = redis.call('ZSCORE', root .. 'ring', name)
  for _, value in ipairs({
    name, redis.call('ZCARD', root .. 'lane:' .. name), stored[1] or 0, stored[2] or 0,
    ring_v or stored[3] or '0', ring_v and 1 or 0,
  }) do
    page[#page + 1] = value
  end
end
return page
