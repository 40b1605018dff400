--- @include "includes/record"
--- @include "includes/lane"
-- What a task's header must be for the scripts that read it.
local WHOLE = { 'delay', 'execute_after', 'expires_at', 'timeout', 'max_retries', 'created_at' }

-- Why it cannot be used; nothing for a sound one.
local function problem_of_header(header)
  if type(header) ~= 'table' then
    return 'its header is not a JSON object'
  end
  local priority = priority_of(header)
  if type(priority) ~= 'number' or priority < 1 or priority > CRITICAL or priority % 1 ~= 0 then
    return 'its priority is not a whole number from 1 to 6'
  end
  for _, name in ipairs(WHOLE) do
    local value = header[name]
    -- Below 9e12 a number of milliseconds is exact in microseconds.
    if value ~= nil and (type(value) ~= 'number' or value < 0 or value >= 9e12 or value % 1 ~= 0) then
      return 'its ' .. name .. ' is not a whole number from 0 on'
    end
  end
  if type(group_of(header)) ~= 'string' then
    return 'its group is not a string'
  end
  local on_failure = header.on_upstream_failure or 'wait'
  if on_failure ~= 'wait' and on_failure ~= 'cancel' and on_failure ~= 'run' then
    return 'its on_upstream_failure is not wait, cancel or run'
  end
end
