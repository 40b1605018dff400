#!lua flags=allow-oom
-- mend_xcom: lets the index of a namespace say what values there are, and until when.
--   options: ttl_ms (for a value that would never expire)
--   arguments: user, namespace (escaped), key ('' for none: only when the index ends) for each
-- Returns how many there were.
--- @include "includes/shard"

for i = 2, #ARGV, 3 do
  local space, name = ARGV[i] .. ':' .. ARGV[i + 1], ARGV[i + 2]
  local index, value = root .. 'xcoms:' .. space, root .. 'xcom:' .. space .. ':' .. name
  local ends = redis.call('PEXPIRETIME', value)
  if ends == -1 then
    ends = now + opts.ttl_ms
    redis.call('PEXPIREAT', value, ends)
  end
  if ends >= 0 then
    redis.call('ZADD', index, ends, name)
  else
    redis.call('ZREM', index, name)
  end
  local latest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2]
  if latest then
    redis.call('PEXPIREAT', index, latest)
  end
end
return (#ARGV - 1) / 3
