-- A user's policy. Its own layers (set live, over configured) are compiled into one when they change; what they
-- leave open comes from the default. (A part that is defined when it is needed: see users.lua.)
local FIELDS = { 'weight', 'max_concurrency', 'share', 'rate', 'burst', 'max_queued', 'paused' }

-- Layers of settings as one: the first that sets a field decides, also with null, which says "no limit".
local function merge(layers)
  local merged = {}
  for _, name in ipairs(FIELDS) do
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

local default_layer = settings.default and cjson.decode(settings.default) or {}
local default_policy = policy_of({ default_layer })

local function effective_policy(compiled)
  return compiled and policy_of({ cjson.decode(compiled), default_layer }) or default_policy
end
