-- A name as a pattern that only it matches.
local function glob_of(name)
  return (string.gsub(name, '[%*%?%[%]\\]', '\\%0'))
end
