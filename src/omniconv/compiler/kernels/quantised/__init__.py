"""Kernels of values on a levels: products of 16 bits in pairs, sums of 32, one multiplication of floats."""
