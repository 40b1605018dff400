--- @include "includes/waiting"
-- Whether a push fits under the limits of its users and of the queue. Only where it may not fit are the tasks
-- looked at that are known already. (A part of push that is defined when it is needed.)

local function is_known(index)
  return redis.call('EXISTS', root .. 'task:' .. ARGV[3 * index - 1] .. ':' .. ARGV[3 * index]) == 1
end

local function are_known(size)
  for i = 1, size do
    if not is_known(i) then
      return false
    end
  end
  return true
end

-- How many tasks this push brings: to all, and to each user.
local function count_coming(size, only_new)
  local total, of_user, seen = 0, {}, {}
  for i = 1, size do
    local name, member = ARGV[3 * i - 1], ARGV[3 * i - 1] .. ':' .. ARGV[3 * i]
    local counts = not seen[member] and not (only_new and is_known(i))
    seen[member] = true
    total = total + (counts and 1 or 0)
    of_user[name] = (of_user[name] or 0) + (counts and 1 or 0)
  end
  return total, of_user
end

local function over_limit(size, rest, only_new)
  local total, of_user = count_coming(size, only_new)
  for name, number in pairs(rest) do
    total, of_user[name] = total + number, (of_user[name] or 0) + number
  end
  if opts.max_queued then
    local waiting = queue_waiting()
    if total > 0 and waiting + total > opts.max_queued then
      return opts.max_queued, waiting, total, ''
    end
  end
  for name, number in pairs(of_user) do
    local user = load_user(name)
    local limit, waiting = user.policy.max_queued, user.live - user.in_flight
    if limit and number > 0 and waiting + number > limit then
      return limit, waiting, number, name
    end
  end
end

local function is_limited(size, rest)
  if opts.max_queued then
    return true
  end
  for i = 1, size do
    if load_user(ARGV[3 * i - 1]).policy.max_queued then
      return true
    end
  end
  for name in pairs(rest) do
    if needed(policies).of(redis.call('HGET', root .. 'user:' .. name, 'policy')).max_queued then
      return true
    end
  end
  return false
end

-- The error of a push that does not fit; nothing for one that does.
local function problem_of_room(size)
  local rest = opts.rest or {}
  if not is_limited(size, rest) or not over_limit(size, rest, false) then
    return nil
  end
  if next(rest) and are_known(size) then
    rest = {} -- a repeat: the rest of the batch had its room then, and is looked at when it comes
  end
  local limit, waiting, coming, name = over_limit(size, rest, true)
  if limit then
    local numbers = integer(limit) .. ' ' .. integer(waiting) .. ' ' .. integer(coming)
    return redis.error_reply('QUEUEFULL ' .. numbers .. ' ' .. name)
  end
end
