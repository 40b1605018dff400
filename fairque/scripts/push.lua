#!lua
-- push: new → QUEUED, SCHEDULED or DEFERRED, for a batch.
--   options: ageing_us, retention, max_queued (of the whole queue; absent for no limit), rest (of a batch in several
--   pushes the first one has here how many tasks of each user come after it, so that all of it is refused or none),
--   depends_on (ids of dependencies by member; of this push or known), missing ('wait' where they may be neither),
--   durable (it is asked afterwards whether replicas have what this wrote, so it must write something)
--   and for a graph in several pushes: gate (a member; tasks that name it among their dependencies wait until it
--   opens), gate_ms (for how long it stays without another push), opens (in the last one), check (in the
--   first push of a batch: what the later ones depend on outside of it, as depends_on)
--   and ask: only look whether it would be refused (absent to push)
--   arguments: user, id, record for each task (ids escaped)
-- Returns 1 for each task that was created, 0 for each that was known and stays as it is.
--- @include "includes/shard"
--- @include "includes/tick"
--- @include "includes/header"
--- @include "includes/users"
--- @include "includes/enter"

local size = (#ARGV - 1) / 3
local headers = {}

for i = 1, size do
  local readable, header = pcall(header_of, ARGV[3 * i + 1])
  local reason = problem_of_header(readable and header)
  if reason then
    return redis.error_reply('BADTASK ' .. (i - 1) .. ' ' .. reason)
  end
  headers[i] = header
end

-- What only some pushes need is defined only for them.
local function room()
--- @include_inside "includes/room"
  return { problem = problem_of_room }
end

local function graphs()
--- @include_inside "includes/graph_push"
  return { problem = problem_of_links, defers = defers, complete = complete }
end

local names = {}
for i = 1, size do
  names[i] = ARGV[3 * i - 1]
end
load_users(names)
local may_be_full = opts.max_queued or opts.rest
for i = 1, size do
  may_be_full = may_be_full or load_user(ARGV[3 * i - 1]).policy.max_queued
end
local full = may_be_full and needed(room).problem(size)
if full then
  return full
end
local graph = (opts.depends_on or opts.gate or opts.check) and needed(graphs)
local problem = graph and graph.problem(size)
if problem then
  return problem
end
if opts.ask then
  return {}
end
for name in pairs(opts.rest or {}) do
  users[name] = nil -- it was only looked at: up to thousands that need not be settled
end

local created, pushed, ready, first_tick = {}, 0, false, nil
for i = 1, size do
  local name, id, record, header = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1], headers[i]
  local member = name .. ':' .. id
  created[i] = 0
  if redis.call('SET', root .. 'task:' .. member, record, 'NX') then
    created[i], pushed = 1, pushed + 1
    local user = load_user(name)
    user.live = user.live + 1
    local tick = next_tick()
    first_tick = first_tick or tick
    local ahead = tick - first_tick
    if not graph or not graph.defers(user, member, header, start_of(header) + ahead) then
      ready = enter(user, member, header, tick, ahead) or ready
    end
  end
end

if graph then
  ready = graph.complete() or ready
end
count('pushed', pushed)
count('durable', opts.durable and 1 or 0)
if pushed > 0 or opts.gate then
  save_tick()
  settle_users()
end
if ready and not queue_is_paused then
  wake()
end
return created
