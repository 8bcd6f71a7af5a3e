"""What all of pytest shares: doctests of a peer are collected only where that runtime is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PEERS = Path(__file__).parent / "src" / "omniconv" / "bench" / "peers"

collect_ignore = [
    str(path) for path in sorted(PEERS.glob("*.py")) if path.stem != "__init__" and find_spec(path.stem) is None
]
