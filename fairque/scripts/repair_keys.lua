#!lua flags=no-writes
-- repair_keys: a page of the names of the shard's keys. Changes nothing.
--   options: cursor, limit (keys to look at, about)
-- Returns the next cursor ('0' on the last page), and for each key that is to be looked at: its kind and the rest of its
-- name. Kinds are those of the keys, and: stray (a task's key without its record), wrong (of another type than its kind has),
-- lasting (should expire, and does not), lapsing (an index of XCom that ends at a wrong time), unknown (of no kind).
--- @include "includes/shard"
--- @include "includes/glob"
--- @include "includes/key_types"

local OF_TASKS = { run = true, result = true, blockers = true, dependents = true }
local EXPIRING = { waits = true, claim = true, service = true }
local found = { '0' }

local function add(kind, rest)
  found[#found + 1], found[#found + 2] = kind, rest
end

local function parts(text)
  local _, colons = string.gsub(text, ':', '')
  return colons + 1
end

-- Of a task, the record is looked at, or what is there without one. Edges are looked at from both of their ends.
local function of_task(kind, member)
  if kind == 'blockers' or kind == 'dependents' then
    add(kind, member)
  end
  if kind ~= 'task' and redis.call('EXISTS', root .. 'task:' .. member) == 0 then
    add('stray', member)
  end
end

local function is_misplaced_value(key, rest)
  local user, space, name = string.match(rest, '^([^:]+):([^:]+):([^:]+)$')
  if has_wrong_type('xcoms:' .. user .. ':' .. space) then
    return false -- it will be, once that has gone
  end
  local ends = redis.call('PEXPIRETIME', key)
  local entry = tonumber(redis.call('ZSCORE', root .. 'xcoms:' .. user .. ':' .. space, name) or nil)
  return ends == -1 or (ends ~= -2 and ends ~= entry)
end

-- Whether an index ends at another time than the latest of its values.
local function is_lapsing(key)
  local latest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
  return latest and tonumber(latest) > now and redis.call('PEXPIRETIME', key) ~= tonumber(latest)
end

local function sort(key, name)
  local kind, rest = string.match(name, '^([^:]*):(.+)$')
  if has_wrong_type(name) then
    add('wrong', name)
  elseif not kind or not TYPES[kind] then
    if not SINGLES[name] then
      add('unknown', name)
    end
  elseif kind == 'task' or OF_TASKS[kind] then
    if parts(rest) ~= 2 then
      add('unknown', name)
    elseif kind == 'task' then
      add(kind, rest)
    else
      of_task(kind, rest)
    end
  elseif EXPIRING[kind] then
    if redis.call('TTL', key) == -1 then
      add('lasting', name)
    end
  elseif kind == 'xcom' then
    if parts(rest) ~= 3 then
      add('unknown', name)
    elseif is_misplaced_value(key, rest) then
      add(kind, rest)
    end
  elseif kind == 'schedule' and parts(rest) == 2 then
    add(kind, rest)
  elseif kind == 'xcoms' and parts(rest) == 2 then
    add(kind, rest)
    if is_lapsing(key) then
      add('lapsing', rest)
    end
  elseif kind == 'lane' or parts(rest) == 1 then
    add(kind, rest)
  else
    add('unknown', name)
  end
end

local step = redis.call('SCAN', opts.cursor, 'MATCH', glob_of(root) .. '*', 'COUNT', opts.limit)
found[1] = step[1]
for _, key in ipairs(step[2]) do
  sort(key, string.sub(key, #root + 1))
end
return found
