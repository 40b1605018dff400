#!lua flags=no-writes
-- repair_users: looks at users: their counters, and what is derived from them. Changes nothing.
--   options: exact (count their tasks now, whatever the numbers say)
--   arguments: name (escaped), tasks in flight, scheduled, deferred, failed, number of groups, group, … for each
-- Returns for each one that something is wrong with: name, 'counters' (or 'numbers': not exact) or 'derived'.
--- @include "includes/shard"
--- @include "includes/repair_user"

local all, i = {}, 2
while ARGV[i] do
  all[#all + 1], i = argument(i)
end
if opts.exact then
  count_exactly(all)
end

-- A new default policy reaches the users page by page.
local is_refreshing = redis.call('HEXISTS', root .. 'settings', 'pending') == 1
local found = {}

local function add(name, kind)
  found[#found + 1], found[#found + 2] = name, kind
end

local function look(given)
  local name = given.name
  local garbage = garbage_of(name)
  if #garbage.user > 0 or #garbage.policy > 0 then
    add(name, 'derived')
    return
  end
  local lanes, ready, ring = lanes_of(given)
  local user = load_user(name)
  if not has_right_counters(user, given, ready) then
    add(name, opts.exact and 'counters' or 'numbers')
  end
  local is_known = redis.call('EXISTS', root .. 'user:' .. name) == 1
  if not is_known and ready == 0 and redis.call('EXISTS', root .. 'policy:' .. name) == 0 then
    if has_leftovers(name) then
      add(name, 'derived')
    end
  elseif not (
    is_known and is_policy_right(name) and is_indexed(user) and has_right_groups(user, lanes, ring)
    and (is_refreshing or is_in_its_ring(user, ready))
  ) then
    add(name, 'derived')
  end
end

for _, given in ipairs(all) do
  look(given)
end
return found
