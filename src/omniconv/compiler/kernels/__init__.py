"""Kernels, one family or one small kernel a room: recipe, choice of tiles, and the calls that a step becomes."""
