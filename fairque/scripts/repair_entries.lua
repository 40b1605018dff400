#!lua flags=no-writes
-- repair_entries: a page of the entries of a sorted set. Changes nothing.
--   options: of (what it holds: tasks, ids (of the tasks of a lane), names, releasing or values), cursor, limit
--   arguments: the set's name; of a lane also its user and its group, of an index of XCom its user and namespace
-- Returns the next cursor ('0' on the last page), those to be looked at (of names all of them), and of tasks how many of
-- them each user has (name, number, …).
--- @include "includes/shard"
--- @include "includes/repair_task"

local set, name, group = ARGV[2], ARGV[3], ARGV[4]
local suspects, numbers = {}, {}

local function has_record(member)
  return redis.call('EXISTS', root .. 'task:' .. member) == 1
end

local function is_of_group(member)
  local text = stored_header_text(member)
  local header = text and header_in(text)
  return header and group_of(header) == group
end

local is_suspect = {
  tasks = function(member)
    local user = string.match(member, '^([^:]+):')
    if user then
      numbers[user] = (numbers[user] or 0) + 1
    end
    return not user or not has_record(member)
  end,
  ids = function(id)
    local member = name .. ':' .. id
    return not has_record(member) or (group ~= '' and not is_of_group(member))
  end,
  names = function()
    return true
  end,
  releasing = function(member)
    local _, id = string.match(member, '^([^:]+):(.+)$')
    return not id or (not is_gate(id) and redis.call('EXISTS', dependents_key(member)) == 0)
  end,
  values = function(key, score)
    local ends = redis.call('PEXPIRETIME', root .. 'xcom:' .. name .. ':' .. group .. ':' .. key)
    return ends ~= tonumber(score) and not (ends == -2 and tonumber(score) <= now)
  end,
}

local step = redis.call('ZSCAN', root .. set, opts.cursor, 'COUNT', opts.limit)
for i = 1, #step[2], 2 do
  if is_suspect[opts.of](step[2][i], step[2][i + 1]) then
    suspects[#suspects + 1] = step[2][i]
  end
end
local tally = {}
for user, number in pairs(numbers) do
  tally[#tally + 1], tally[#tally + 2] = user, number
end
return { step[1], suspects, tally }
