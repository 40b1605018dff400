--- @include "includes/fail_task"
--- @include "includes/lost"
-- What a claim meets that cannot start. (A part of claim that is defined when it is needed.)

local function has_expired(header)
  local expires_at = cjson.decode(header).expires_at
  return type(expires_at) == 'number' and expires_at <= now
end

local function expire(user, member)
  local attempt = tonumber(redis.call('HGET', root .. 'run:' .. member, 'attempt')) or 0
  local error = 'its expires_at passed before an attempt could start'
  fail_task(user, member, { attempt = attempt, type = 'expired', error = error })
end
