#!lua flags=allow-oom
-- configure: publishes the policies of a configuration, in place of those published before.
--   options: digest (of this configuration), default (the layer of all users, a JSON object as text), ask (only
--   say whether nothing is published, 1, as after a loss of data, or not all of this one; else 0)
--   arguments: user (escaped), layer (a JSON object as text) for each user with a policy
-- Returns 0 where this configuration is published already, 1 when it is done, 2 when the users without a policy
-- of their own have to be refreshed, because the default has changed.
--- @include "includes/shard"
--- @include "includes/own_policy"

local key = root .. 'settings'
local known = redis.call('HMGET', key, 'digest', 'default', 'pending')
if opts.ask then
  return (known[1] or (known[3] and known[3] ~= opts.digest)) and 0 or 1
end
if known[1] == opts.digest then
  return 0
end

local given, changed = {}, {}
for i = 2, #ARGV, 2 do
  given[ARGV[i]] = ARGV[i + 1]
end
for _, name in ipairs(redis.call('SMEMBERS', root .. 'configured')) do -- as many as a configuration names
  if not given[name] then
    redis.call('HDEL', root .. 'policy:' .. name, 'configured')
    redis.call('SREM', root .. 'configured', name)
    changed[#changed + 1] = name
  end
end
for name, layer in pairs(given) do
  if redis.call('HGET', root .. 'policy:' .. name, 'configured') ~= layer then
    redis.call('HSET', root .. 'policy:' .. name, 'configured', layer)
    redis.call('SADD', root .. 'configured', name)
    changed[#changed + 1] = name
  end
end
redis.call('HSET', key, 'default', opts.default)
redis.call('HDEL', key, 'digest') -- from here on it is no longer what is published
settings.default = opts.default ~= '{}' and opts.default

for _, name in ipairs(changed) do
  compile_policy(name)
end
settle_users()
for _, user in pairs(users) do
  index_idle(user)
end
-- `pending` stays until the last page is refreshed: whose refresh is cut short, or overtaken by another
-- configuration, leaves it to the next one to complete.
if known[3] or (known[2] or '{}') ~= opts.default then
  redis.call('HSET', key, 'pending', opts.digest)
  return 2
end
redis.call('HSET', key, 'digest', opts.digest)
return 1
