#!lua flags=allow-oom
-- open: what a client has to know before it uses a queue: what the server says of its memory and its persistence
-- (where it may be asked), and how many shards the queue has: the first client that has several says it, while nothing is here.
--   options: shards (absent to ask only)
-- Returns INFO's text of these sections, and the number of shards.
--- @include "includes/shard"

local text = redis.pcall('INFO', 'memory')
if type(text) ~= 'string' then
  text = ''
else
  text = text .. redis.call('INFO', 'persistence')
end
local shards = tonumber(redis.call('HGET', root .. 'settings', 'shards'))
if not shards and opts.shards and opts.shards > 1 then
  -- What is here without a number was put here by clients that know of one shard.
  local is_used = redis.call('ZCOUNT', root .. 'users', 0, 0) > 0 or redis.call('EXISTS', root .. 'schedule_index') == 1
  shards = is_used and 1 or opts.shards
  if not is_used then
    redis.call('HSET', root .. 'settings', 'shards', shards)
  end
end
return { text, shards or opts.shards or 1 }
