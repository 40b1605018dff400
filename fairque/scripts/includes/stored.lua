--- @include "includes/record"
-- The header of a stored task without its body, which may be large; nothing where the record is gone.
local FIRST_READ = 2047

local function stored_header_text(member)
  local key = root .. 'task:' .. member
  local text = redis.call('GETRANGE', key, 0, FIRST_READ)
  if text == '' then
    return nil
  end
  if not string.find(text, '\n', 1, true) then
    text = redis.call('GET', key)
  end
  return header_text(text)
end

local function stored_header(member)
  local text = stored_header_text(member)
  return text and cjson.decode(text)
end
