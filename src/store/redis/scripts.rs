//! The decisions of the store, each in one script, so that no other client comes between. They decide
//! what [`Arbiter`](crate::roles::arbiter::Arbiter) decides; a test plays both side by side. A key that
//! is of another type is taken for missing, and replaced by what belongs there.

/// Asks for the lease. Keys: lease, fence, state, table, quiet. Arguments: `acquire`, `renew` or
/// `release`; fence (for `acquire` the least), milliseconds of the lease, process, its admin address,
/// number of the request, channel of the tables, what proves the record or nothing.
///
/// Answers `granted` and the fence; or `renewed` and the versions of state and table, as fence and
/// number each; or `refused`, the fence of the holder, the process, its admin address and what proves it.
pub(super) const LEASE: &str = r"
local ask, fence, ttl, id, admin, request = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local function text(number) return string.format('%.0f', number) end
local function number(key)
    local found = redis.pcall('GET', key)
    return type(found) == 'string' and tonumber(found)
end
local function hash(key, ...)
    local found = redis.pcall('HMGET', key, ...)
    return found.err and {} or found
end
local lease = hash(KEYS[1], 'id', 'admin', 'fence', 'request', 'authenticator')
local holder, held = lease[1], tonumber(lease[3] or '0') or 0
local counter, quiet = number(KEYS[2]), number(KEYS[5])
if not counter then
    local now = redis.call('TIME')
    counter, quiet = now[1] * 1000 + math.floor(now[2] / 1000), 0
    redis.call('SET', KEYS[2], text(counter))
    redis.call('SET', KEYS[5], '0', 'PX', ttl)
end
local function refused()
    return {'refused', holder and text(held) or '0', holder or '', holder and lease[2] or '', holder and lease[5] or ''}
end
local function show(shown)
    if quiet and shown > quiet then redis.call('SET', KEYS[5], text(shown), 'KEEPTTL') end
end
local function give(under)
    redis.call('SET', KEYS[2], text(math.max(counter, under)))
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'id', id, 'admin', admin, 'fence', text(under), 'request', request, 'authenticator', ARGV[8])
    redis.call('PEXPIRE', KEYS[1], ttl)
end
local is_mine = holder == id and held == fence
if ask == 'acquire' then
    if quiet then
        show(fence)
        return refused()
    end
    if holder and not (holder == id and (tonumber(lease[4] or '0') or 0) < tonumber(request)) then
        return refused()
    end
    local next = math.max(counter, fence) + 1
    give(next)
    return {'granted', text(next)}
elseif ask == 'renew' then
    local is_back = quiet and fence >= quiet and (not holder or held < fence)
    if not is_mine and not is_back and fence <= counter then return refused() end
    show(fence)
    give(fence)
    local state = hash(KEYS[3], 'fence', 'number')
    local table = hash(KEYS[4], 'fence', 'number')
    return {'renewed', state[1] or '', state[2] or '', table[1] or '', table[2] or ''}
end
if is_mine then
    redis.call('DEL', KEYS[1])
    redis.call('PUBLISH', ARGV[7], 'free')
    holder = false
end
return refused()
";

/// Writes the state. Keys: lease, state. Arguments: fence, number, generation, version of the text,
/// the text. Answers `ok`, or why not and what there is instead.
pub(super) const WRITE: &str = r"
local fence, number, generation = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease = redis.pcall('HGET', KEYS[1], 'fence')
if type(lease) ~= 'string' then return {'free', ''} end
if tonumber(lease) ~= fence then return {'fenced', lease} end
local stored = redis.pcall('HMGET', KEYS[2], 'fence', 'number', 'generation', 'version')
if stored.err then
    redis.call('DEL', KEYS[2])
    stored = {}
end
local old_fence, old_number = tonumber(stored[1] or '0') or 0, tonumber(stored[2] or '0') or 0
if (tonumber(stored[4] or '0') or 0) > tonumber(ARGV[4]) then return {'newer', stored[4]} end
if old_fence > fence or (old_fence == fence and old_number > number) then return {'older', stored[2]} end
if old_fence < fence and (tonumber(stored[3] or '0') or 0) > generation then return {'back', stored[3]} end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'number', ARGV[2], 'generation', ARGV[3], 'version', ARGV[4], 'text', ARGV[5])
return {'ok', ''}
";

/// Publishes a table. Keys: lease, table. Arguments: fence, number, the table in full, channel, what
/// is told there. Answers like [`WRITE`].
pub(super) const PUBLISH: &str = r"
local fence, number = tonumber(ARGV[1]), tonumber(ARGV[2])
local lease = redis.pcall('HGET', KEYS[1], 'fence')
if type(lease) ~= 'string' then return {'free', ''} end
if tonumber(lease) ~= fence then return {'fenced', lease} end
local stored = redis.pcall('HMGET', KEYS[2], 'fence', 'number')
if stored.err then
    redis.call('DEL', KEYS[2])
    stored = {}
end
local old_fence, old_number = tonumber(stored[1] or '0') or 0, tonumber(stored[2] or '0') or 0
if old_fence > fence or (old_fence == fence and old_number > number) then return {'older', stored[2]} end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'number', ARGV[2], 'text', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return {'ok', ''}
";
