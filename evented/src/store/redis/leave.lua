-- Forgets a session. What it holds is due again when its leases end.
--
-- ARGV: session.
local session = arg()
call('ZREM', sessions, session)
call('ZREM', session_leases, session)
return 1
