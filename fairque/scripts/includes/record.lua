-- A task's record is a JSON header of named fields, a newline, and the body, which is never decoded here.
local function header_of(record)
  return cjson.decode(string.match(record, '^[^\n]*'))
end

local NORMAL = 3

local function priority_of(header)
  return header.priority or NORMAL
end
