"""Many images of mixed sizes: read, batched by shape, computed and written; bad ones are reported at the end."""

from omniconv.mapping.report import MapRecord, MapReport
from omniconv.mapping.run import map  # noqa: A004 - the name of the public interface

__all__ = ["MapRecord", "MapReport", "map"]
