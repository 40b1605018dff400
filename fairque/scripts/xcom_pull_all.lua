#!lua flags=no-writes
-- xcom_pull_all: a page of all values of a namespace.
--   options: cursor ("0" at first, then that of the page before), limit (about so many keys), bytes (once the values
--   reach so many, the rest of the page comes without them)
--   arguments: user, namespace (escaped)
-- Returns the next cursor ("0" on the last page), and for each key: key, value (0 where it is to be pulled by
-- itself). They come in no order, and a key may come twice.
--- @include "includes/shard"
--- @include "includes/xcom"

-- Not by expiry: that walk would miss a key that is pushed again with a shorter life meanwhile. This one gives every
-- key that is there from its first page to its last, whatever is written in between, and goes `limit` steps at a time
-- through this one index.
local step = redis.call('ZSCAN', index, opts.cursor, 'COUNT', opts.limit)
local page, size = { step[1] }, 0
for i = 1, #step[2], 2 do
  local name = step[2][i]
  local value = 0
  if size < opts.bytes then
    value = redis.call('GET', value_key(name))
    size = size + (value and #value or 0)
  end
  if value then
    page[#page + 1], page[#page + 2] = name, value
  end
end
return page
