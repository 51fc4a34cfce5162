-- One line of figures at the end of a wrk run: what its own report leaves out is p99.9.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    "FIGURES %d %d %d %.0f %.0f %.0f\n",
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
