-- Records handlers, if the catalogue is still as it was read.
--
-- ARGV: origin; the generation as it was read, and the next one; when the caller's process began, in milliseconds since 1970, or
-- `lost` where it puts back what the server has lost; handlers, and for each: id, entry, lane as it was, or nothing; retired
-- ones, and for each: id, and when. The answer: 1 where it is done, 0 where the catalogue has changed.
local origin, generation, next_generation, began = arg(), arg(), arg(), arg()
if call('HGET', layout, 'generation') ~= generation then return 0 end
local lost, changed = began == 'lost', false
local lanes, numbers, highest = {}, {}, tonumber(call('HGET', layout, 'lanes') or 0)
local known = call('HGETALL', base .. 'lanes')
for i = 1, #known, 2 do
    local num = string.match(known[i + 1], '^%d+')
    lanes[known[i]], numbers[num] = true, true
    highest = math.max(highest, tonumber(num))
end

-- Numbers are given once, also where the server has lost to whom: what is stored under one is never another's. So the first is
-- random.
if highest == 0 then highest = tonumber(sub(next_generation, -9)) end
local function give_lane(id, was)
    if lanes[id] then return end
    if was == '' or numbers[string.match(was, '^%d+')] then was = digits(highest + 1) .. ':' end
    local num = string.match(was, '^%d+')
    lanes[id], numbers[num] = true, true
    highest = math.max(highest, tonumber(num))
    call('HSET', base .. 'lanes', id, was)
    call('HSET', layout, 'lanes', digits(highest))
end

for _ = 1, number() do
    local id, entry, lane = arg(), arg(), arg()
    local there = call('HGET', base .. 'catalogue', id)
    local retired = call('SISMEMBER', base .. 'retired', id) == 1
    local back = retired and not lost and tonumber(began) > tonumber(call('HGET', base .. 'retired_at', id) or 0)
    if back or (not retired and (not there or (not lost and there ~= entry))) then
        call('HSET', base .. 'catalogue', id, entry)
        call('SREM', base .. 'retired', id)
        call('HDEL', base .. 'retired_at', id)
        changed = true
    end
    if back or not retired then give_lane(id, lane) end
end
for _ = 1, number() do
    local id, when = arg(), arg()
    if call('HEXISTS', base .. 'catalogue', id) == 0 and call('SADD', base .. 'retired', id) == 1 then
        call('HSET', base .. 'retired_at', id, when)
        changed = true
    end
end
if changed then
    call('HSET', layout, 'generation', next_generation)
    publish(origin)
end
return 1
