-- What most scripts have to know of dependencies: whether there are any (includes/dependencies has the rest).

local function dependents_key(member)
  return root .. 'dependents:' .. member
end

local function any_has_dependents(members)
  for slice in slices(members) do
    for i, member in ipairs(slice) do
      slice[i] = dependents_key(member)
    end
    if redis.call('EXISTS', unpack(slice)) > 0 then
      return true
    end
  end
  return false
end
