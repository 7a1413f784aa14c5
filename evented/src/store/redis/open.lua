-- Lays the store out where it is new.
--
-- ARGV: this code's version, and the oldest that may go on beside it; a name and a generation for a store that has none. The
-- answer: the version that is there, the oldest that may go on with that, and the store's name.
local version, min_compatible = ARGV[1], ARGV[2]
local found = call('HMGET', layout, 'version', 'min_compatible')
make_whole(version, min_compatible, ARGV[3], ARGV[4])
if found[1] and tonumber(found[1]) < tonumber(version) then
    call('HSET', layout, 'version', version, 'min_compatible', min_compatible)
elseif found[1] then
    version, min_compatible = found[1], found[2] or min_compatible
end
return { version, min_compatible, call('HGET', layout, 'identity') }
