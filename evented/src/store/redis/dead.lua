-- Dead letters, the newest first, in pages.
--
-- ARGV: `all`, or `of`; a handler; from which score down; how many. The answer: the score of the last one; for each: id,
-- handler, entry, letter.
local which, handler, from, count = arg(), arg(), arg(), number()
local list = base .. 'dead'
if which == 'of' then
    local num = string.match(call('HGET', base .. 'lanes', handler) or '', '^(%d+):')
    if not num then return { '0', {} } end
    list = list .. ':' .. num
end
local found = call('ZREVRANGEBYSCORE', list, from, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
local names = {}
local lanes = call('HGETALL', base .. 'lanes')
for i = 1, #lanes, 2 do names[string.match(lanes[i + 1], '^%d+')] = lanes[i] end
local letters = {}
for i = 1, #found, 2 do
    local letter = call('HGET', base .. 'dead_letters', found[i])
    local name = letter and names[digits((read('>I4', letter)))]
    if name then
        letters[#letters + 1] = { found[i], name, call('HGET', base .. 'catalogue', name) or '', letter }
    end
end
return { found[#found] or '0', letters }
