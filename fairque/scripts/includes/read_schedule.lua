-- What is read of a schedule: the fields of `schedule:<user>:<id>`, in the order in which replies have them.
local FIELDS = {
  'revision', 'definition', 'task', 'fire', 'created_at', 'fired', 'last_fire', 'last_task', 'skipped', 'failures',
  'last_error', 'last_failed_at',
}

local function read_schedule(member)
  return redis.call('HMGET', root .. 'schedule:' .. member, unpack(FIELDS))
end
