-- Transactions of two branches, or the calls that they are made of: `wrk … -- KIND PREFIX`; ids begin with the prefix.
local threads = {}
local count = 0
-- Answers that are no success: of each thread, read when all is done.
unexpected = 0

local bodies = {
  ["two-phase-commit"] = '"branches":[{"service":"one"},{"service":"other"}]',
  saga = '"steps":[{"action":"service://one/action","compensate":"service://one/compensate"},'
    .. '{"action":"service://other/action","compensate":"service://other/compensate"}]',
}

local calls = {"/one/prepare", "/other/prepare", "/one/commit", "/other/commit"}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  kind, prefix = args[1], args[2]
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  if kind == "calls" then
    local requests = {}
    for index, path in ipairs(calls) do
      requests[index] = wrk.format(nil, path, nil, "{}")
    end
    request = function()
      count = count + 1
      return requests[count % #requests + 1]
    end
    return
  end
  local protocol, waits = kind:match("^(.*)%+(.*)$")
  local head = '{"trans_type":"' .. protocol .. '","payloads":["{}","{}"],' .. bodies[protocol]
    .. ',"wait_result":' .. waits .. ',"gid":"' .. prefix
  request = function()
    count = count + 1
    return wrk.format(nil, "/api/dtmsvr/submit", nil, head .. count .. '"}')
  end
  response = function(status)
    if status ~= 200 then
      unexpected = unexpected + 1
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  for _, thread in ipairs(threads) do
    failed = failed + (thread:get("unexpected") or 0)
  end
  io.write(string.format("FIGURES %d %d %d %.0f %.0f %.0f\n",
    summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
