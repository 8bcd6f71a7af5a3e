"""Layers whose inputs are broadcast against vectors of output channels: dense, pointwise, wide groups."""
