"""Layers whose every vector lane is one output channel: depthwise, multipliers, narrow groups."""
