-- The catalogue, and the store made whole where it lost what evented presumes.
--
-- ARGV: origin; this code's version, and the oldest that may go on beside it; the name that the caller knows the store by; a
-- generation for a store that has none. The answer: the generation; the store's name; whether something was made again; the
-- handlers with their entries; with their lanes; the retired ones; when they were.
local origin = arg()
local made = make_whole(arg(), arg(), arg(), arg())
if made then publish(origin) end
local found = call('HMGET', layout, 'generation', 'identity')
return {
    found[1], found[2], made and 1 or 0,
    call('HGETALL', base .. 'catalogue'),
    call('HGETALL', base .. 'lanes'),
    call('SMEMBERS', base .. 'retired'),
    call('HGETALL', base .. 'retired_at'),
}
