#!lua flags=no-writes
-- list_schedules: a page of the schedules, in the order of their members.
--   options: limit (how many), bytes (about how many a page has at the most), user (only that one's; absent for all)
--   arguments: the member after which the page begins (empty for the first one)
-- Returns the member after which the next page begins (empty on the last page), and for each its member and the fields
-- of includes/read_schedule.
--- @include "includes/shard"
--- @include "includes/read_schedule"

-- A colon ends the user in a member; the character after it ends all members of the user.
local from = ARGV[2] ~= '' and '(' .. ARGV[2] or (opts.user and '[' .. opts.user .. ':' or '-')
local to = opts.user and '(' .. opts.user .. ';' or '+'
local members = redis.call('ZRANGEBYLEX', root .. 'schedule_index', from, to, 'LIMIT', 0, opts.limit)
local page, size = { #members == opts.limit and members[#members] or '' }, 0
for _, member in ipairs(members) do
  local fields = read_schedule(member)
  if fields[1] then
    page[#page + 1], page[#page + 2] = member, fields
    size = size + #(fields[2] or '') + #(fields[3] or '')
  end
  if size >= opts.bytes then
    page[1] = member ~= members[#members] and member or page[1]
    break
  end
end
return page
