-- How many tasks of the queue are waiting: pushed, and neither running nor ended.
local function queue_waiting()
  local totals = redis.call(
    'HMGET', root .. 'stats', 'pushed', 'requeued', 'finished', 'failed', 'canceled', 'lost'
  )
  local live = 0
  for i = 1, 6 do
    live = live + (i <= 2 and 1 or -1) * (tonumber(totals[i]) or 0)
  end
  return live - redis.call('ZCARD', root .. 'leases')
end
