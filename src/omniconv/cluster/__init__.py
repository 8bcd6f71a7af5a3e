"""A cluster of Dask: which workers it has, what each is sent once, and jobs whose results come as they are ready."""

from omniconv.cluster.client import open_client
from omniconv.cluster.fleet import Fleet
from omniconv.cluster.shipment import ClusterWork, on_threads

__all__ = ["ClusterWork", "Fleet", "on_threads", "open_client"]
