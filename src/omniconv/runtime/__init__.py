"""Running what was compiled: threads, memory, calls."""
