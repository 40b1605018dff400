#!lua flags=allow-oom
-- refresh: lets a new default policy take effect on a page of the users with live tasks.
--   options: limit, digest (of the configuration that has this default)
--   arguments: the last user of the page before ('' for the first)
-- Returns the last user of this page; '' at the end, when the configuration is marked as published, unless
-- another one has been meanwhile.
--- @include "includes/shard"
--- @include "includes/users"

local key, last = root .. 'users', ARGV[2]
local from = 0
if last ~= '' then
  -- It may have gone from among the live ones meanwhile: put back for a moment, it tells its place.
  local score = redis.call('ZSCORE', key, last)
  redis.call('ZADD', key, 0, last)
  from = redis.call('ZRANK', key, last) + (score == '0' and 1 or 0)
  if not score then
    redis.call('ZREM', key, last)
  else
    redis.call('ZADD', key, score, last)
  end
end
local found = redis.call('ZRANGE', key, from, from + opts.limit - 1, 'WITHSCORES') -- by rank: however far it is
local page = {}
for i = 1, #found, 2 do
  if found[i + 1] == '0' then
    page[#page + 1] = found[i]
    load_user(found[i])
  end
end
settle_users()
if #page == opts.limit then
  return page[#page]
end
if redis.call('HGET', root .. 'settings', 'pending') == opts.digest then -- else another one came in between
  redis.call('HDEL', root .. 'settings', 'pending')
  redis.call('HSET', root .. 'settings', 'digest', opts.digest)
end
return ''
