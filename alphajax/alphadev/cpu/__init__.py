"""Programs on this CPU: a sandboxed child process, checks of results, latency."""
