-- Retires a handler, if the catalogue is still as it was read; with its earlier names, which would otherwise be handlers again.
--
-- ARGV: origin, id, the generation as it was read, the next one. The answer: 1 where it, or one of those, was there; 0 where
-- none was; -1 where the catalogue has changed.
local origin, id, generation, next_generation = arg(), arg(), arg(), arg()
if call('HGET', layout, 'generation') ~= generation then return -1 end
local names = { id }
local entry = call('HGET', base .. 'catalogue', id)
if entry then
    for _, alias in ipairs(cjson.decode(entry).aliases) do names[#names + 1] = alias end
end
local retired = 0
for _, name in ipairs(names) do
    if call('HEXISTS', base .. 'catalogue', name) == 1 and call('SADD', base .. 'retired', name) == 1 then
        call('HSET', base .. 'retired_at', name, digits(math.floor(now / 1000)))
        retired = 1
    end
end
if retired == 1 then
    call('HSET', layout, 'generation', next_generation)
    publish(origin)
end
return retired
