#!lua flags=no-writes
-- explain: what decides when one task runs.
--   arguments: member
-- Returns a JSON object of named values; nothing for an unknown task.
--- @include "includes/shard"
--- @include "includes/users"
--- @include "includes/service"
--- @include "includes/locate"
--- @include "includes/waiting"
--- @include "includes/dependencies"

local SHOWN_AHEAD = 5
local SHOWN_BLOCKERS = 100
local member = ARGV[2]
local name, id = parts_of(member)
local state, score, group = locate(member)
if not state then
  return false
end
local user = load_user(name)
local found = {
  state = state, at = score, group = group, now = now,
  queue_paused = queue_is_paused, queue_waiting = queue_waiting(),
  ring_size = redis.call('ZCARD', root .. 'ring'), leased = redis.call('ZCARD', root .. 'leases'),
  ring_rank = redis.call('ZRANK', root .. 'ring', name) or nil,
  throttled_until = tonumber(redis.call('ZSCORE', root .. 'throttled', name)) or nil,
  in_flight = user.in_flight, served = user.served, busy_ms = user.busy_ms,
  policy = user.policy,
}
local run = redis.call(
  'HMGET', root .. 'run:' .. member,
  'worker', 'attempt', 'failure_type', 'error', 'unknown_attempt', 'unknown_since'
)
found.worker, found.attempt = run[1] or nil, tonumber(run[2]) or nil
found.failure_type, found.error = run[3] or nil, run[4] or nil
if run[5] and run[5] == run[2] then
  found.unknown_since = tonumber(run[6])
end
if state == 'QUEUED' then
  local lane = lane_key(name, group)
  found.lane_rank = redis.call('ZRANK', lane, id)
  if found.lane_rank > 0 then
    found.ahead = redis.call('ZRANGE', lane, 0, math.min(found.lane_rank, SHOWN_AHEAD) - 1)
  end
  if user.groups then
    found.group_rank = redis.call('ZRANK', root .. 'groups:' .. name, group) or nil
    found.groups = redis.call('ZCARD', root .. 'groups:' .. name)
  end
end
if state == 'DEFERRED' then
  local ids = redis.call('ZRANGEBYSCORE', blockers_key(member), OPEN, OPEN, 'LIMIT', 0, SHOWN_BLOCKERS)
  local others = {}
  for i, other in ipairs(ids) do
    others[i] = name .. ':' .. other
  end
  local states = states_of(others)
  found.blockers, found.ended = {}, {}
  for i, other in ipairs(others) do
    found.blockers[i] = ids[i]
    if not is_gate(ids[i]) and states[other] ~= 'live' then
      found.ended[#found.ended + 1] = { ids[i], states[other] or 'missing' }
    end
  end
  found.open = redis.call('ZCOUNT', blockers_key(member), OPEN, OPEN)
  found.ended = found.ended[1] and found.ended or nil
end
-- The pace of the queue: tasks started since the last minute began, or since the first of them.
local starts = 0
for _, which in ipairs({ minute, minute - 1 }) do
  local stored = redis.call('HMGET', root .. 'service:' .. string.format('%d', which), 'starts', 'since')
  starts = starts + (tonumber(stored[1]) or 0)
  found.since = tonumber(stored[2]) or found.since
end
found.starts = starts
return cjson.encode(found)
