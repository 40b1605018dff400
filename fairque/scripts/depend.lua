#!lua
-- depend: adds dependencies to a task that has not started: QUEUED or SCHEDULED → DEFERRED, or CANCELED at once if
-- one has failed and its policy says so.
--   options: ageing_us, retention, missing ('wait' where they may be unknown)
--   arguments: member, id of a dependency, …
-- Returns the state the task has now, and 1 if the dependencies were added: it must not have started or ended.
--- @include "includes/shard"
--- @include "includes/locate"
--- @include "includes/cycle"
--- @include "includes/downstream"
--- @include "includes/release"

local member = ARGV[2]
local name, id = parts_of(member)
local dependencies = { unpack(ARGV, 3) }

local state, score, group = locate(member)
local header = stored_header(member)
if not state or not header then
  return unknown_task(member)
end
local is_waiting = state == 'QUEUED' or state == 'SCHEDULED' or state == 'DEFERRED'
if not is_waiting or redis.call('HEXISTS', root .. 'run:' .. member, 'attempt') == 1 then
  return { state, 0 }
end
local others = {}
for i, dependency in ipairs(dependencies) do
  others[i] = name .. ':' .. dependency
end
local states = states_of(others)
for i, other in ipairs(others) do
  if not states[other] and opts.missing ~= 'wait' then
    return redis.error_reply('UNKNOWNDEPENDENCY ' .. member .. ':' .. dependencies[i])
  end
end
local problem = find_cycle(member, dependencies, {}, {})
if problem then
  return problem
end

local user = load_user(name)
local is_doomed = link(member, dependencies, on_failure(header), states)
if state ~= 'DEFERRED' and (is_doomed or has_open_blocker(member)) then
  if state == 'QUEUED' then
    take_out_of_lane(user, group, id)
    defer(user, member, now_us)
  else
    redis.call('ZREM', root .. 'scheduled', member)
    user.scheduled = user.scheduled - 1
    defer(user, member, score)
  end
  state = 'DEFERRED'
end
if is_doomed then
  cancel_deferred(user, member)
  state = 'CANCELED'
end
release_dependents()
settle_users()
return { state, 1 }
