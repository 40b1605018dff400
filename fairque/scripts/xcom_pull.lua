#!lua flags=no-writes
-- xcom_pull: reads values.
--   options: bytes (the reply ends with the value that reaches so many)
--   arguments: user, namespace, key for each (escaped)
-- Returns a value for each key, false where there is none. It answers at least one; ask again for the rest.
--- @include "includes/shard"
--- @include "includes/xcom"

local found, size = {}, 0
for i = 4, #ARGV do
  local value = redis.call('GET', value_key(ARGV[i]))
  found[#found + 1] = value
  size = size + (value and #value or 0)
  if size >= opts.bytes then
    break
  end
end
return found
