//! The decisions of the store, each in one script, so that no other client comes between. They decide
//! what [`Arbiter`](ringmaster_core::roles::arbiter::Arbiter) decides; a test plays both side by side. A key that
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
local function exact(text)
    local number = tonumber(text or '')
    return number and number >= 0 and number <= 9007199254740991 and number
end
local function is_error(found)
    if type(found) ~= 'table' or not found.err then return false end
    if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found.err) end
    return true
end
local function number(key)
    local found = redis.pcall('GET', key)
    return not is_error(found) and exact(found)
end
local function hash(key, ...)
    local found = redis.pcall('HMGET', key, ...)
    return is_error(found) and {} or found
end
local lease = hash(KEYS[1], 'id', 'admin', 'fence', 'request', 'authenticator')
local holder, held = lease[1], exact(lease[3]) or 0
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
    if holder and not (holder == id and (exact(lease[4]) or 0) < tonumber(request)) then
        return refused()
    end
    local next = math.max(counter, fence) + 1
    give(next)
    return {'granted', text(next)}
elseif ask == 'renew' then
    local is_back = quiet and fence >= quiet
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

/// How each script begins that writes under a fence, its first argument: it says why not, if another
/// one or none has the lease, its first key. `exact`: a number that a script can have written, or 0.
macro_rules! fenced {
    ($rest:literal) => {
        concat!(
            r"
local fence = tonumber(ARGV[1])
local function exact(text)
    local number = tonumber(text or '0') or 0
    return number >= 0 and number <= 9007199254740991 and number or 0
end
local function is_error(found)
    if type(found) ~= 'table' or not found.err then return false end
    if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found.err) end
    return true
end
local lease = redis.pcall('HGET', KEYS[1], 'fence')
if is_error(lease) or not lease then return {'free', ''} end
if tonumber(lease) ~= fence then return {'fenced', lease} end
",
            $rest
        )
    };
}

/// Writes the state. Keys: lease, state. Arguments: fence, number, generation, version of the text,
/// the text. Answers `ok`, or why not and what there is instead.
pub(super) const WRITE: &str = fenced!(
    r"
local number, generation = tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.pcall('HMGET', KEYS[2], 'fence', 'number', 'generation', 'version')
if is_error(stored) then
    redis.call('DEL', KEYS[2])
    stored = {}
end
local old_fence, old_number = exact(stored[1]), exact(stored[2])
if exact(stored[4]) > tonumber(ARGV[4]) then return {'newer', stored[4]} end
if old_fence > fence or (old_fence == fence and old_number > number) then return {'older', stored[2]} end
if old_fence < fence and exact(stored[3]) > generation then return {'back', stored[3]} end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'number', ARGV[2], 'generation', ARGV[3], 'version', ARGV[4], 'text', ARGV[5])
return {'ok', ''}
"
);

/// Publishes a table. Keys: lease, table. Arguments: fence, number, the table in full, channel, what
/// is told there. Answers like [`WRITE`].
pub(super) const PUBLISH: &str = fenced!(
    r"
local number = tonumber(ARGV[2])
local stored = redis.pcall('HMGET', KEYS[2], 'fence', 'number')
if is_error(stored) then
    redis.call('DEL', KEYS[2])
    stored = {}
end
local old_fence, old_number = exact(stored[1]), exact(stored[2])
if old_fence > fence or (old_fence == fence and old_number > number) then return {'older', stored[2]} end
redis.call('HSET', KEYS[2], 'fence', ARGV[1], 'number', ARGV[2], 'text', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return {'ok', ''}
"
);

/// Writes what is said of a backend, and publishes it. Keys: lease, backend. Arguments: fence, status,
/// time, channel, what is told there. Answers like [`WRITE`].
pub(super) const MARK: &str = fenced!(
    r"
local written = redis.pcall('HSET', KEYS[2], 'status', ARGV[2], 'last_checked', ARGV[3])
if is_error(written) then return {'type', KEYS[2]} end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return {'ok', ''}
"
);

/// Lists backends again. Keys: lease, list, mark of this fleet, backends. Arguments: fence, and the id
/// and the URL of each backend. One of another type is left as it is. Answers like [`WRITE`].
pub(super) const RESTORE: &str = fenced!(
    r"
for at = 4, #KEYS do
    local id, url = ARGV[2 * at - 6], ARGV[2 * at - 5]
    is_error(redis.pcall('HSETNX', KEYS[at], 'url', url))
    if is_error(redis.pcall('SADD', KEYS[2], id)) then return {'type', KEYS[2]} end
end
redis.call('SET', KEYS[3], '1')
return {'ok', ''}
"
);
