#!lua flags=no-writes
-- due_schedules: schedules that are due, those first that were due first.
--   options: limit (how many), bytes (about how many at the most)
-- Returns the time, the milliseconds until the first one is due (-1 for none), and for each that is due its member and
-- the fields of includes/read_schedule.
--- @include "includes/shard"
--- @include "includes/read_schedule"

local members = redis.call('ZRANGEBYSCORE', root .. 'schedules', '-inf', now, 'LIMIT', 0, opts.limit)
local first = redis.call('ZRANGE', root .. 'schedules', 0, 0, 'WITHSCORES')[2]
local due, size = { now, first and math.max(0, tonumber(first) - now) or -1 }, 0
for _, member in ipairs(members) do
  local fields = read_schedule(member)
  due[#due + 1], due[#due + 2] = member, fields
  size = size + #(fields[2] or '') + #(fields[3] or '')
  if size >= opts.bytes then
    break
  end
end
return due
