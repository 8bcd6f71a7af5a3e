"""The explorer: every kind of convolution seen, changed and run, in one page."""

from omniconv.explorer.exploration import Exploration, explore

__all__ = ["Exploration", "explore"]
