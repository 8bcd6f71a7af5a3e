"""Which cluster is meant: a client that is open, one that is given, or the address of a scheduler."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from omniconv.errors import DataError, StorageError, UnsupportedError
from omniconv.outside import need_package

TIMEOUT: Final = 10
"""Seconds to wait for a scheduler."""


@contextmanager
def open_client(cluster: Any) -> Iterator[Any]:
    """The client of a cluster, where there is one to use; otherwise ``None``.

    Args:
        cluster: ``None`` for the client that is open in this process, if any; a client; the address of a scheduler;
            ``False`` for none.

    Raises:
        DataError: something else.
        StorageError: no scheduler at the address.
        UnsupportedError: Dask's ``distributed`` is not installed, or an asynchronous client.
    """
    if cluster is False or (cluster is None and "distributed" not in sys.modules):
        yield None
        return
    need_package("distributed")
    import distributed

    if isinstance(cluster, str):
        with _connect(cluster) as client:
            yield client
        return
    client = _find_current() if cluster is None else cluster
    if client is not None and not isinstance(client, distributed.Client):
        raise DataError(
            f"cluster is {type(cluster).__name__}",
            need="a dask.distributed.Client, the address of a scheduler, or False",
            fix='cluster="tcp://host:8786"',
        )
    if client is not None and client.asynchronous:
        raise UnsupportedError("an asynchronous client of Dask", need="a synchronous one", fix="Client(address)")
    yield client


def _find_current() -> Any:
    """The client of this process. A job of a worker has none: it is computed where it is."""
    import distributed

    try:
        distributed.get_worker()
    except ValueError:
        try:
            return distributed.default_client()
        except ValueError:
            return None
    return None


def _connect(address: str) -> Any:
    import distributed
    from distributed.comm import get_address_host_port

    try:
        if address.partition("://")[0] in ("tcp", "tls", address):
            # A client that finds nobody leaves a thread behind; with several of them, no further one starts.
            socket.create_connection(get_address_host_port(address), timeout=TIMEOUT).close()
        return distributed.Client(address, set_as_default=False, timeout=TIMEOUT)
    except (OSError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise StorageError(
            f"no scheduler of Dask at {address!r}: {error}", need="the address that it says", fix="tcp://host:8786"
        ) from error
