-- What wrk asks for serve.py, and what became of it: one line of JSON, the last of all that wrk prints.
--
-- From the environment: BODY, posted as JSON, in which each %d is a running number from FIRST on, which
-- is in X-Id too; without BODY it is a GET. With COUNT=1 each answer is looked at, which costs wrk time.

local body, first = os.getenv("BODY"), tonumber(os.getenv("FIRST") or "0")
local number, headers, threads = first, {}, {}

taken, busy, told, other = 0, 0, 0, 0

if body then
   wrk.method, wrk.body = "POST", body
   wrk.headers["Content-Type"] = "application/json"
   wrk.headers["X-Id"] = tostring(first)
end

if body and body:find("%%d") then
   headers["Content-Type"] = "application/json"
   request = function()
      -- A string: Lua writes large numbers with an exponent.
      local text = string.format("%.0f", number)
      number = number + 1
      headers["X-Id"] = text
      return wrk.format(nil, nil, headers, (body:gsub("%%d", text)))
   end
end

if os.getenv("COUNT") then
   response = function(status, given)
      if status == 200 then
         taken = taken + 1
      elseif status == 429 then
         busy = busy + 1
         if tonumber(given["retry-after"] or given["Retry-After"] or "") then told = told + 1 end
      else
         other = other + 1
      end
   end
end

function setup(thread)
   table.insert(threads, thread)
end

function done(summary, latency)
   local sums = {taken = 0, busy = 0, told = 0, other = 0}
   for _, thread in ipairs(threads) do
      for name, sum in pairs(sums) do sums[name] = sum + thread:get(name) end
   end
   local failed = summary.errors
   local line = '{"requests": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "most": %.6f, "refused": %d, '
      .. '"broken": %d, "taken": %d, "busy": %d, "told": %d, "other": %d}\n'
   io.write(line:format(
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
      latency.max / 1e6, failed.status, failed.connect + failed.read + failed.write + failed.timeout,
      sums.taken, sums.busy, sums.told, sums.other))
end
