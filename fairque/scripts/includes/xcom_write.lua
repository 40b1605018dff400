--- @include "includes/fence"
--- @include "includes/xcom"
-- What a task writes it writes under the fence of its attempt: `fence` has its member, attempt and claim. Returns
-- the refusal if the attempt no longer holds its lease; nobody else is refused.
local function refusal()
  if not opts.fence then
    return nil
  end
  local member, attempt, claim = unpack(opts.fence)
  if is_attempt(attempt_of(member), attempt, claim) and is_leased(member) then
    return nil
  end
  return redis.error_reply('LEASELOST ' .. attempt .. ' ' .. member)
end

-- Remove values with their entries. Returns how many values were there.
local function drop(names)
  if #names == 0 then
    return 0
  end
  local keys = {}
  for i, name in ipairs(names) do
    keys[i] = value_key(name)
  end
  redis.call('ZREM', index, unpack(names))
  return redis.call('UNLINK', unpack(keys))
end

-- After every change: some of the entries go whose values have expired (no write adds more than one, so they do not
-- pile up), and the index lasts as long as the latest value in it.
local function settle_index()
  drop(redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. integer(now), 'LIMIT', 0, opts.sweep))
  local latest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2]
  if latest then
    redis.call('PEXPIREAT', index, latest)
  end
end
