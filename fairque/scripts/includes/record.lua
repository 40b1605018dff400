-- A task's record is a JSON header of named fields, a newline, and the body, which is never decoded here.
local function header_text(record)
  return string.match(record, '^[^\n]*')
end

local function header_of(record)
  return cjson.decode(header_text(record))
end

local NORMAL = 3

local function priority_of(header)
  return header.priority or NORMAL
end

local function group_of(header)
  return header.group or ''
end

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
