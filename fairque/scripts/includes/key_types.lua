-- The kinds of keys that a shard has, and the server's type of each: those with a name behind their kind, and those that
-- are there once.
local TYPES = {
  task = 'string', run = 'hash', result = 'string', lane = 'zset', blockers = 'zset', dependents = 'zset',
  user = 'hash', policy = 'hash', costs = 'hash', groups = 'zset', idle_groups = 'zset', waits = 'hash',
  xcom = 'string', xcoms = 'zset', claim = 'string', service = 'hash', schedule = 'hash',
}
local SINGLES = {
  ring = 'zset', throttled = 'zset', users = 'zset', leases = 'zset', scheduled = 'zset', deferred = 'zset',
  finished = 'zset', failed = 'zset', canceled = 'zset', releasing = 'zset', gates = 'zset', workers = 'zset',
  schedules = 'zset', schedule_index = 'zset', clock = 'hash', stats = 'hash', settings = 'hash', configured = 'set', wake = 'list',
}

-- Whether what stands under a name, below the root, can be read by no script.
local function has_wrong_type(name)
  local kind = string.match(name, '^([^:]*):')
  local expected, actual = SINGLES[name] or TYPES[kind or ''], redis.call('TYPE', root .. name).ok
  return expected ~= nil and actual ~= expected and actual ~= 'none'
end
