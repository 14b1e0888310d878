"""Programs on the real CPU: a sandboxed child process, native checks, latency."""
