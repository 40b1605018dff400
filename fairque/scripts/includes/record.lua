-- A task's record is a JSON header of named fields, a newline, and the body, which is never decoded here.
local function header_text(record)
  local stop = string.find(record, '\n', 1, true)
  return stop and string.sub(record, 1, stop - 1) or record
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
