#!lua flags=no-writes
-- users: what is known of some users: a page of all, those with live tasks first, or the ones named.
--   options: limit, offset
--   arguments: user (escaped) for each that is asked for; none for a page
-- Returns the time (ms), the default policy, and for each: name, its record (field, value, …), its virtual time if
-- it is in the ring, until when it is throttled (ms), and its waits in this period and in the last (bucket,
-- number, …).
--- @include "includes/shard"
--- @include "includes/waits"

local names = { unpack(ARGV, 2) }
if #names == 0 then
  names = redis.call('ZRANGE', root .. 'users', opts.offset, opts.offset + opts.limit - 1)
end
local found = { now, redis.call('HGET', root .. 'settings', 'default') }
for _, name in ipairs(names) do
  local record = redis.call('HGETALL', root .. 'user:' .. name)
  if #record > 0 then
    for _, value in ipairs({
      name, record, redis.call('ZSCORE', root .. 'ring', name), redis.call('ZSCORE', root .. 'throttled', name),
      redis.call('HGETALL', waits_key(name, 0)), redis.call('HGETALL', waits_key(name, 1)),
    }) do
      found[#found + 1] = value
    end
  end
end
return found
