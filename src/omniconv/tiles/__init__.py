"""Images larger than memory, in tiles: the same result as of the whole, whatever the tiles."""

from omniconv.tiles.plan import TilePlan
from omniconv.tiles.planner import plan_tiles
from omniconv.tiles.run import tiled

__all__ = ["TilePlan", "plan_tiles", "tiled"]
