"""How the memory of a run is shared out."""

from __future__ import annotations

from typing import Final

SHARES: Final = 16
"""Parts that memory is cut into. One image as it is decoded, images that wait for others of their shape, a batch that
is ready, one that is computed, as it came and side by side, and results that are computed, ready and written take one
each; what is left is for computing."""
COMPUTING: Final = 8
"""Parts for working memory and weights."""
