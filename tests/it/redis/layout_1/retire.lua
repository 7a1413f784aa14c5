-- Retires a handler, with its earlier names, which would otherwise be handlers again.
--
-- ARGV: origin, id. The answer: 1 where it, or one of those, was there.
local origin, id = arg(), arg()
local names = { id }
local entry = call('HGET', base .. 'handlers', id)
if entry then
    for _, alias in ipairs(cjson.decode(entry).aliases) do names[#names + 1] = alias end
end
local retired = 0
for _, name in ipairs(names) do
    if call('HEXISTS', base .. 'handlers', name) == 1 and call('SADD', base .. 'retired', name) == 1 then retired = 1 end
end
if retired == 1 then
    local generation = tonumber(call('HGET', layout, 'generation') or 0)
    call('HSET', layout, 'generation', digits(math.max(math.floor(now / 1000), generation + 1)))
    publish(origin)
end
return retired
