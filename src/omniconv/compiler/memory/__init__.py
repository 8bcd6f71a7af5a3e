"""Where values lie: layouts, buffers, and the state of planning."""
