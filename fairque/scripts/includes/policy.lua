-- A user's policy. Its own layers (set live, over configured) are compiled into one when they change; what they
-- leave open comes from the default.
local POLICY = { 'weight', 'max_concurrency', 'share', 'rate', 'burst', 'max_queued', 'paused' }
local settings = redis.call('HMGET', root .. 'settings', 'default', 'paused')
local queue_is_paused = settings[2] ~= false

-- Layers of settings, the first that sets one decides; null says "no limit".
local function policy_of(layers)
  local policy = {}
  for _, name in ipairs(POLICY) do
    for _, layer in ipairs(layers) do
      if layer[name] ~= nil then
        policy[name] = layer[name] ~= cjson.null and layer[name] or nil
        break
      end
    end
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
