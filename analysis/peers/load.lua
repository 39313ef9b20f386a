-- What wrk sends: keys that differ, made before the start so that sending costs little, and the
-- counts in one line that a program can read. Arguments: method, path, bytes of a body, keys,
-- whether connections are kept.

local requests = {}
local turn = 0

function init(arguments)
    local method, path = arguments[1], arguments[2]
    local body = nil
    if tonumber(arguments[3]) > 0 then
        body = string.rep("x", tonumber(arguments[3]))
    end
    local headers = { ["Host"] = wrk.headers["Host"] }
    if arguments[5] == "close" then
        headers["Connection"] = "close"
    end
    math.randomseed(1)
    for number = 1, tonumber(arguments[4]) do
        headers["X-Request-ID"] = string.format("%06d", math.random(0, 999999))
        requests[number] = wrk.format(method, path, headers, body)
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary)
    local errors = summary.errors
    io.write(string.format("counts %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
