#!lua flags=no-writes
-- server: what the server says of its memory and its persistence. Where it may not be asked, nothing.
-- Returns INFO's text of these sections.
--- @include "includes/shard"

local text = redis.pcall('INFO', 'memory')
if type(text) ~= 'string' then
  return ''
end
return text .. redis.call('INFO', 'persistence')
