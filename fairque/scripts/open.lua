#!lua flags=allow-oom
-- open: what a client has to know before it uses a queue: what the server says of its memory and its persistence
-- (where it may be asked), and how many shards the queue has: the first client that has several says it.
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
  shards = opts.shards
  redis.call('HSET', root .. 'settings', 'shards', shards)
end
return { text, shards or opts.shards or 1 }
