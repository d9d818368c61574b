"""The Lua scripts that Redis runs in one step each.

A group is a sorted set of its members, ordered by the time at which they expire. Each put removes a few
expired members, so that the size of the set follows the number of live members. The set expires with its last
member, so that nothing remains of it.


Other programs can write to the server too. A value that is larger than any value of this package is
unreadable: it is never loaded, and a put that requires an absent value replaces it.
"""

from pywry_auth.backends.base import LARGEST_VALUE

_UNREADABLE = f"""
local function unreadable(key)
    local size = redis.pcall('STRLEN', key)
    return type(size) == 'number' and size > {LARGEST_VALUE}
end
"""

GET = f"""{_UNREADABLE}
if unreadable(KEYS[1]) then return 0 end
return redis.call('GET', KEYS[1])
"""
"""Key: record. The result is 0 if it is unreadable."""

LEFT_OUT = 1
"""The result for a record that would make an answer too large."""

GET_MANY = f"""{_UNREADABLE}
local found, size = {{}}, 0
for i, key in ipairs(KEYS) do
    local value
    if size > {1 << 20} then value = {LEFT_OUT}
    elseif unreadable(key) then value = 0
    else value = redis.pcall('GET', key) end
    if type(value) == 'table' then value = 0 end  -- a key of another type
    if type(value) == 'string' then size = size + #value end
    found[i] = value
end
return found
"""
"""Keys: records. Each result is a value, nothing, 0 if the record is unreadable, or :data:`LEFT_OUT`."""

PUT = (
    f"""{_UNREADABLE}"""
    + """
if KEYS[2] then redis.call('ZCARD', KEYS[2]) end  -- fails before the write if the group has another type
local set = {'SET', KEYS[1], ARGV[1]}
if ARGV[2] ~= '' then set[4], set[5] = 'PX', ARGV[2] end
if ARGV[4] ~= '' then
    if unreadable(KEYS[1]) or redis.call('GET', KEYS[1]) ~= ARGV[5] then return 0 end
elseif ARGV[3] ~= '' then
    if unreadable(KEYS[1]) then
        if ARGV[3] == 'XX' then return 0 end
        redis.call('DEL', KEYS[1])
    end
    set[#set + 1] = ARGV[3]
end
if not redis.call(unpack(set)) then return 0 end
if not KEYS[2] then return 1 end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = ARGV[2] == '' and 'inf' or string.format('%d', now + ARGV[2])
redis.call('ZADD', KEYS[2], expires, ARGV[6])

local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 10)
if #ended > 0 then redis.call('ZREM', KEYS[2], unpack(ended)) end
if ARGV[7] ~= '' then
    -- Redis serves no other request in the meantime, so that a damaged group is reduced step by step.
    for i = 1, math.min(redis.call('ZCARD', KEYS[2]) - ARGV[7], 1000) do
        local member = redis.call('ZPOPMIN', KEYS[2])[1]
        if string.byte(member) == 0 then member = string.sub(member, 2) else member = ARGV[9] .. member end
        redis.call('DEL', ARGV[8] .. member)
    end
end

local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if last and tonumber(last) > 253370764800000 then redis.call('PERSIST', KEYS[2])
elseif last then redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', last)) end
return 1
"""
)
"""Keys: record, perhaps group.

Arguments: value, milliseconds or '', NX, XX or '', '1' to compare or '', the expected value; with a group
also member, limit or '', prefix of all keys, prefix of the members.
"""

REWRITE = f"""{_UNREADABLE}
if unreadable(KEYS[1]) or redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', left)
elseif left == -1 then redis.call('SET', KEYS[1], ARGV[2])
else return 0 end
return 1
"""
"""Key: record. Arguments: the expected value, the new one."""

POP = f"""{_UNREADABLE}
if unreadable(KEYS[1]) then
    if not ARGV[2] then redis.call('DEL', KEYS[1]) end
    return false
end
local value = redis.call('GET', KEYS[1])
if not value or (ARGV[2] and value ~= ARGV[2]) then return false end
redis.call('DEL', KEYS[1])
if KEYS[2] then redis.pcall('ZREM', KEYS[2], ARGV[1]) end
return value
"""
"""Keys: record, perhaps group. Arguments: member or '', perhaps the expected value."""

MEMBERS = f"""{_UNREADABLE}
local page = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', 500)
local live = {{}}
for i = 1, #page[2], 2 do
    local key = page[2][i]
    if string.byte(key) == 0 then key = string.sub(key, 2) else key = ARGV[3] .. key end
    if #key <= {LARGEST_VALUE} and redis.call('EXISTS', ARGV[2] .. key) == 1 then live[#live + 1] = key end
end
return {{page[1], live}}
"""
"""Key: group. Arguments: cursor, prefix of all keys, prefix of the members."""

PRUNE = """
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 500)
local removed = 0
for _, key in ipairs(page[2]) do
    local left = redis.call('PTTL', key)
    if left >= 0 and left <= tonumber(ARGV[3]) then removed = removed + redis.call('DEL', key) end
end
return {page[1], removed}
"""
"""Key: any of the site, so that its node answers. Arguments: cursor, pattern of the keys, milliseconds."""

SCAN = "return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])"
"""Key: any of the site, so that its node answers. Arguments: cursor, pattern of the keys, size of a page."""

COUNT = """
local count = redis.pcall('INCR', KEYS[1])
local damaged = type(count) == 'number' and count < 1
if type(count) == 'table' then
    damaged = string.find(count.err, 'not an integer', 1, true) or string.find(count.err, 'overflow', 1, true)
    if not damaged then return count end
end
if damaged then
    redis.call('SET', KEYS[1], 1)
    count = 1
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
"""
"""Key: counter. Argument: milliseconds."""
