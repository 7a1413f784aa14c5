-- Forgets deliveries that were pushed once so many microseconds ago, some at a time. The answer: whether there may be more.
--
-- ARGV: the age, how many at most.
local age, limit = number(), number()
local once = base .. 'once'
local ids = call('ZRANGEBYSCORE', once, '-inf', '(' .. digits(now - age), 'LIMIT', 0, limit)
for from = 1, #ids, CHUNK do
    call('ZREM', once, unpack(ids, from, math.min(from + CHUNK - 1, #ids)))
end
return #ids >= limit and 1 or 0
