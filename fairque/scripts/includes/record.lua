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
