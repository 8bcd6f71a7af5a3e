"""Winograd filtering: 3x3 layers by fewer multiplications."""
