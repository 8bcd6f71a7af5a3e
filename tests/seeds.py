"""How many random networks are drawn."""

from __future__ import annotations

import os
from typing import Final

NETWORKS: Final = int(os.environ.get("OMNICONV_NETWORKS", "80"))
"""The seed before which wide runs end; OMNICONV_NETWORKS=320 is the full run."""
