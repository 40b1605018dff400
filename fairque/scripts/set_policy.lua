#!lua flags=allow-oom
-- set_policy: changes one user's policy; its backlog follows at the next dispatch.
--   options: live (the new live layer, a JSON object as text), expected (the live layer this change is based on;
--   absent for none asked), keep_switch (leave the switch even where the live layer says `paused`), paused (the
--   switch: true or false), clear (drop the live layer and the switch)
--   arguments: user (escaped)
-- Returns 1; 0 where the live layer is not the expected one, and nothing was changed.
--- @include "includes/shard"
--- @include "includes/own_policy"

local name = ARGV[2]
local key = root .. 'policy:' .. name
if opts.expected and (redis.call('HGET', key, 'live') or '{}') ~= opts.expected then
  return 0
end
if opts.clear then
  redis.call('HDEL', key, 'live', 'paused')
end
if opts.live then
  if opts.live == '{}' then
    redis.call('HDEL', key, 'live')
  else
    redis.call('HSET', key, 'live', opts.live)
  end
  if cjson.decode(opts.live).paused ~= nil and not opts.keep_switch then
    redis.call('HDEL', key, 'paused') -- the policy says it itself
  end
end
if opts.paused then
  redis.call('HSET', key, 'paused', '1')
elseif opts.paused == false then
  -- The switch stays only where another layer would pause the user: else it would keep one that was paused once
  -- from ever being forgotten, and from a pause that is configured later.
  redis.call('HDEL', key, 'paused')
  if compile_policy(name).policy.paused then
    redis.call('HSET', key, 'paused', '0')
    users[name] = nil
  end
end
local user = compile_policy(name)
settle_users()
index_idle(user)
return 1
