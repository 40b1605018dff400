-- The shard this call is about: its root, the call's options by name, and the server's time.
local root = KEYS[1] .. ':'
local opts = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

-- Numbers go to redis.call as they are, which keeps all 53 bits. Where a script makes text of one (in a key,
-- in an error) it must be small: Lua's own conversion keeps 14 digits. This one keeps all of an integer.
local function integer(number)
  return string.format('%.0f', number)
end

-- A member `<user>:<id>` names a task in sets and keys; both parts are escaped, so the colon is unique.
local function parts_of(member)
  local colon = string.find(member, ':', 1, true)
  return string.sub(member, 1, colon - 1), string.sub(member, colon + 1)
end

local function count(name, by)
  if by > 0 then
    redis.call('HINCRBY', root .. 'stats', name, by)
  end
end

local ARGUMENTS = 1000 -- of one command; Lua's stack ends at some 8,000. Even, so that no slice parts a pair

-- A long list in parts that can be the arguments of one command.
local function slices(list)
  local first = 1 - ARGUMENTS
  return function()
    first = first + ARGUMENTS
    if first <= #list then
      return { unpack(list, first, math.min(first + ARGUMENTS - 1, #list)) }
    end
  end
end

-- Definitions cost time in every run, and most runs need few of them. So a part of a script that only some runs need
-- (policies, groups, rates, …) is a function that defines it and returns what others may call: `needed(part).name(…)`.
local defined = {} -- parts that this run has needed
local function needed(part)
  local functions = defined[part]
  if not functions then
    functions = part()
    defined[part] = functions
  end
  return functions
end

-- All functions of a script use what stands above. Lua looks for a local that a new function captures among all
-- captured ones, newest first, which for the oldest of them takes long. From inside of a function they are found
-- at once, and a script of many small functions begins in two thirds of the time.
--- @inner
