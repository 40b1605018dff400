#!lua flags=no-writes
-- failed: a page of the dead letter queue, those kept longest first.
--   options: limit, offset, user (only this user's; absent for all)
-- Looks at `limit` tasks from `offset` on, whosoever they are. Returns how many it looked at, and for each
-- that fits: member, record, run (field, value, …).
--- @include "includes/shard"

local members = redis.call('ZREVRANGE', root .. 'failed', opts.offset, opts.offset + opts.limit - 1)
local page = { #members }
for _, member in ipairs(members) do
  local record = redis.call('GET', root .. 'task:' .. member)
  if record and (not opts.user or parts_of(member) == opts.user) then
    page[#page + 1] = member
    page[#page + 1] = record
    page[#page + 1] = redis.call('HGETALL', root .. 'run:' .. member)
  end
end
return page
