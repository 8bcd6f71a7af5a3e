"""``python -m omniconv`` is the command ``omniconv``."""

from __future__ import annotations

from omniconv.cli import main

main()
