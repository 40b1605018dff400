-- The picker among users that are named. (A part of claim that is defined when it is needed.)
local function first_users_among(names)
  local queue = { head = 1, is_whole = true }
  for _, name in ipairs(names) do
    local v = redis.call('ZSCORE', root .. 'ring', name)
    if v then
      queue[#queue + 1] = load_user(name, tonumber(v))
    end
  end
  table.sort(queue, before)
  return queue
end

-- The smallest virtual time in the ring of a user that is not among these.
local function first_v_outside(names)
  local among = {}
  for _, name in ipairs(names) do
    among[name] = true
  end
  local found = redis.call('ZRANGE', root .. 'ring', 0, #names, 'WITHSCORES')
  for i = 1, #found, 2 do
    if not among[found[i]] then
      return tonumber(found[i + 1])
    end
  end
  return math.huge
end
