-- Wake one idle worker. One token is enough: whoever takes it claims, and wakes the next while there is more.
local function wake()
  if redis.call('LLEN', root .. 'wake') == 0 then
    redis.call('RPUSH', root .. 'wake', 1)
  end
end
