-- Forgets deliveries that were pushed once, some at a time: whose time is over, and the oldest beyond the number that is kept.
--
-- ARGV: how long they are kept, in microseconds; how many are; how many of each kind at most. The answer: whether there may be
-- more, and how many were forgotten before their time since that was last answered, here and by pushes.
local retention, kept, limit = number(), number(), number()
local over, beyond = forget(retention, kept, limit)
local forgotten = call('HGET', layout, 'forgotten')
if forgotten then call('HDEL', layout, 'forgotten') end
return { (over >= limit or beyond >= limit) and 1 or 0, tonumber(forgotten or 0) }
