-- Renews leases.
--
-- ARGV: how long, in microseconds; groups, and for each: lease, deliveries, their ids. The answer has for each delivery
-- whether its lease is still held, 1 or 0.
local lease_end = digits(now + math.max(number(), 1000))
local held = {}
for _ = 1, number() do
    local lease, deliveries_of_it = arg(), number()
    local _, leased = lane_of_lease(lease)
    local last = at + deliveries_of_it - 1
    while at <= last do
        local to = math.min(at + CHUNK - 1, last)
        local found, due = call('HMGET', leases, unpack(ARGV, at, to)), {}
        for i = 1, #found do
            held[#held + 1] = '0'
            if found[i] == lease then
                held[#held] = '1'
                due[#due + 1], due[#due + 2] = lease_end, ARGV[at + i - 1]
            end
        end
        if #due > 0 then
            -- As in a claim: a full server lets leases live on.
            call('HDEL', leases, '')
            call('ZADD', leased, 'XX', unpack(due))
        end
        at = to + 1
    end
end
return table.concat(held)
