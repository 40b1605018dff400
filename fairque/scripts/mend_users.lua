#!lua flags=allow-oom
-- mend_users: counts users' tasks anew, and derives from them and from the policy what follows: ring, throttled, groups,
-- index. Who has neither tasks nor a policy nor a record leaves nothing.
--   options: none
--   arguments: as for repair_users
-- Returns how many users there were.
--- @include "includes/shard"
--- @include "includes/repair_user"

local all, i = {}, 2
while ARGV[i] do
  all[#all + 1], i = argument(i)
end
count_exactly(all)

local function drop_garbage(name)
  for kind, fields in pairs(garbage_of(name)) do
    if #fields > 0 then
      redis.call('HDEL', root .. kind .. ':' .. name, unpack(fields))
    end
  end
  for _, set in ipairs({ 'ring', 'throttled' }) do
    local score = redis.call('ZSCORE', root .. set, name)
    if score and not is_number(score) then
      redis.call('ZREM', root .. set, name)
    end
  end
end

local function mend_groups(user, lanes, ring)
  for group in pairs(lanes) do
    user.groups = user.groups or (group ~= '' and 0) or nil
  end
  if not user.groups and #ring > 0 then
    redis.call('UNLINK', root .. 'groups:' .. user.name)
  elseif user.groups then
    for group in pairs(lanes) do
      needed(groups).load(user, group)
    end
    for _, group in ipairs(ring) do
      needed(groups).load(user, group)
    end
  end
end

local function mend_counters(user, given, ready)
  local numbers = given.numbers
  user.in_flight, user.scheduled, user.deferred = numbers.in_flight, numbers.scheduled, numbers.deferred
  user.live = ready + numbers.in_flight + numbers.scheduled + numbers.deferred
  local failed = redis.call('HGET', root .. 'user:' .. user.name, 'failed')
  if tonumber(failed or 0) ~= numbers.failed then
    redis.call('HSET', root .. 'user:' .. user.name, 'failed', numbers.failed)
  end
end

local function mend(given)
  local name = given.name
  drop_garbage(name)
  local lanes, ready, ring = lanes_of(given)
  local user = compile_policy(name)
  mend_counters(user, given, ready)
  mend_groups(user, lanes, ring)
  if not redis.call('ZSCORE', root .. 'throttled', name) then
    user.throttled = 0
  elseif user.throttled == 0 then
    redis.call('ZREM', root .. 'throttled', name)
  end
end

local function mend_index(user)
  if redis.call('EXISTS', root .. 'user:' .. user.name) == 0 then
    for _, kind in ipairs(OF_USER) do
      redis.call('UNLINK', root .. kind .. user.name)
    end
    for _, set in ipairs({ 'ring', 'throttled', 'users' }) do
      redis.call('ZREM', root .. set, user.name)
    end
  elseif user.live > 0 then
    redis.call('ZADD', root .. 'users', 0, user.name)
  elseif not is_indexed(user) then
    index_idle(user)
  end
end

for _, given in ipairs(all) do
  mend(given)
end
settle_users()
for _, user in pairs(users) do
  mend_index(user)
end
return #all
