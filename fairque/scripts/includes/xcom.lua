-- XCom: one namespace of one user's cross-task data. Each value is a key of its own, which the server expires by
-- itself; an index (key → expiry) tells what there is, and expires with the last of them. So nothing is left over,
-- and nobody has to clean up.
local space = ARGV[2] .. ':' .. ARGV[3] -- user and namespace, escaped
local index = root .. 'xcoms:' .. space

local function value_key(name)
  return root .. 'xcom:' .. space .. ':' .. name
end
