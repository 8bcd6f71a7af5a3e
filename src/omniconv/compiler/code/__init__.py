"""From IR to object code, in memory and on disk."""
