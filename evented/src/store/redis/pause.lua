-- Pauses a queue, or resumes it.
--
-- ARGV: origin, queue, 1 or 0.
local origin, queue, paused = arg(), arg(), arg()
if paused == '1' then
    call('SADD', base .. 'paused', queue)
else
    call('SREM', base .. 'paused', queue)
    publish(origin)
end
return 1
