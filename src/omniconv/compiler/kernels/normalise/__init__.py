"""Batch normalisation: sums over all images and positions of each channel, and values made of such sums."""
