--- @include "includes/users"
-- A user's own layers of policy, in `policy:<user>`: `live` and `configured` (JSON objects), and `paused`, the
-- switch that pausing and resuming set. The record has them compiled into one.

-- Call after a change of the layers. The user is loaded with its new policy and has to be settled.
local function compile_policy(name)
  local stored = redis.call('HMGET', root .. 'policy:' .. name, 'paused', 'live', 'configured')
  local layers = {}
  if stored[1] then
    layers[1] = { paused = stored[1] == '1' }
  end
  for i = 2, 3 do
    if stored[i] then
      layers[#layers + 1] = cjson.decode(stored[i])
    end
  end
  local user = root .. 'user:' .. name
  if #layers > 0 then
    redis.call('HSET', user, 'policy', cjson.encode(needed(policies).merge(layers)))
    redis.call('ZADD', root .. 'users', 'NX', '+inf', name)
  else
    redis.call('HDEL', user, 'policy')
  end
  return load_user(name)
end

-- One without live tasks is kept for its policy, or may be forgotten.
local function index_idle(user)
  if user.live > 0 then
    return
  end
  if redis.call('EXISTS', root .. 'user:' .. user.name) == 0 then
    redis.call('ZREM', root .. 'users', user.name)
  else
    redis.call('ZADD', root .. 'users', user.compiled and '+inf' or now, user.name)
  end
end
