-- A user's policy. Its own layers (set live, over configured) are compiled into one when they change; what they
-- leave open comes from the default.
local POLICY = { 'weight', 'max_concurrency', 'share', 'rate', 'burst', 'max_queued', 'paused' }
local settings = redis.call('HMGET', root .. 'settings', 'default', 'paused')
local queue_is_paused = settings[2] ~= false

-- Layers of settings as one: the first that sets a field decides, also with null, which says "no limit".
local function merge(layers)
  local merged = {}
  for _, name in ipairs(POLICY) do
    for _, layer in ipairs(layers) do
      if layer[name] ~= nil then
        merged[name] = layer[name]
        break
      end
    end
  end
  return merged
end

local function policy_of(layers)
  local policy = merge(layers)
  for name, value in pairs(policy) do
    policy[name] = value ~= cjson.null and value or nil
  end
  policy.weight = policy.weight or 1
  return policy
end

local default_layer, default_policy = {}, { weight = 1 }

local function use_default(text)
  default_layer = cjson.decode(text)
  default_policy = policy_of({ default_layer })
end

if settings[1] then
  use_default(settings[1])
end

local function effective_policy(compiled)
  return compiled and policy_of({ cjson.decode(compiled), default_layer }) or default_policy
end
