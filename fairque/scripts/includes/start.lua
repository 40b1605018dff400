-- How an attempt starts: what is written of it, what it is charged, and what the worker gets. (Only claim uses it.)
local function give(member, attempt, claim, failures, record)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = member, attempt, claim, failures, record
end

-- A task whose next crash makes it poisoned may have crashed only beside one that kills its worker. So it is the
-- last of its batch, and its worker starts nothing beside it: if that dies now, there is no doubt whose fault it is.
local function is_suspect(crashes)
  return crashes and tonumber(crashes) >= math.max(1, opts.max_crashes - 1)
end

local function start(user, group, member, key, place, header, record, is_new)
  local attempt, failures, cost = 1, 0, 1
  reply[5] = 0
  if not is_new then
    local last = redis.call('HMGET', key, 'attempt', 'failures', 'crashes')
    attempt, failures = (tonumber(last[1]) or 0) + 1, tonumber(last[2]) or 0
    reply[5] = is_suspect(last[3]) and 1 or 0
  end
  if opts.cost == 'time' then
    cost = needed(costs).estimate(user, needed(costs).function_of(header))
    redis.call('HSET', key, 'charged', cost, 'weight', user.policy.weight)
  end
  if group then
    redis.call('HSET', key, 'group', group.name)
  end
  local claim = place .. ':' .. claimed_us .. ((group or opts.cost == 'time') and '+' or '')
  redis.call('HSET', key, 'attempt', attempt, 'claim', claim, 'worker', opts.worker, 'started_at', claimed_at)
  local before = user.v
  largest_v = math.max(largest_v or before, before)
  charge(user, group, cost)
  charged = charged + user.v - before
  if user.policy.rate then
    needed(rates).use_token(user)
  end
  user.in_flight, user.served, user.starts = user.in_flight + 1, user.served + 1, user.starts + 1
  local at = string.find(header, '"priority":', 1, true)
  local priority = at and tonumber(string.sub(header, at + 11, at + 11)) or NORMAL
  waited(user, (now_us - tick_of(tonumber(place), priority)) / 1000)
  leases[#leases + 1], leases[#leases + 2] = expires, member
  started[#started + 1] = member
  give(member, attempt, claim, failures, record)
end
