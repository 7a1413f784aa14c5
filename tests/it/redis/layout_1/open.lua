-- Lays the store out where it is new.
--
-- ARGV: this code's version, and the oldest that may go on beside it. The answer: the version that is there, and the oldest
-- that may go on with that.
local version, min_compatible = arg(), arg()
local found = call('HMGET', layout, 'version', 'min_compatible')
if not found[1] then
    -- A generation never comes again, also after the server has lost its data: it begins as the time.
    call('HSET', layout, 'version', version, 'min_compatible', min_compatible)
    call('HSETNX', layout, 'generation', digits(math.floor(now / 1000)))
    return { version, min_compatible }
end
if tonumber(found[1]) < tonumber(version) then
    call('HSET', layout, 'version', version, 'min_compatible', min_compatible)
end
return found
