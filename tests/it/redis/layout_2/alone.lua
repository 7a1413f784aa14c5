-- Notes whether a delivery runs alone now.
--
-- ARGV: lease, id, 2 where it does and 1 where it does no more. The answer: 1 where the lease is still held.
local lease, id, alone = arg(), arg(), number()
if call('HGET', leases, id) ~= lease then return 0 end
local failed, _, deaths, failure = state_of(id)
call('HDEL', leases, '')
set_state(id, failed, alone, deaths, failure)
return 1
