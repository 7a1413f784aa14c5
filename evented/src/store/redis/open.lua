-- Lays the store out where it is new.
--
-- ARGV: this code's version, and the oldest that may go on beside it; a name and a generation for a store that has none; 1 where
-- those who are there are asked for its name first. The answer: the version that is there, the oldest that may go on with that,
-- and the store's name; nothing while others are asked.
local version, min_compatible, name, generation, asks = arg(), arg(), arg(), arg(), arg()
take_over()
local found = call('HMGET', layout, 'version', 'min_compatible', 'identity')
if asks == '1' and not found[1] and not found[3] then
    local there = redis.pcall('PUBSUB', 'NUMSUB', base .. 'changes')
    if there[2] and tonumber(there[2]) > 0 then
        publish('')
        return {}
    end
end
make_whole(version, min_compatible, name, generation)
if found[1] and tonumber(found[1]) < tonumber(version) then
    call('HSET', layout, 'version', version, 'min_compatible', min_compatible)
elseif found[1] then
    version, min_compatible = found[1], found[2] or min_compatible
end
return { version, min_compatible, call('HGET', layout, 'identity') }
