"""`PageServer`: gives the page to the browser of this machine's user, and answers what the page asks.

It listens on the loopback address only, on a port that the system chooses, and serves nothing but::

    GET  /TOKEN/          the page
    POST /TOKEN/NAME      JSON in, JSON out, for each NAME of ``answers``

TOKEN is secret and new each time: other users of the machine, and pages of other sites in the same browser, do not know
it. What else they could try is refused before anything is read or done: another ``Host`` (a name that was made to point
here), another ``Origin``, bodies without a length or with more than :data:`MOST_BYTES`, more than :data:`MOST_AT_ONCE`
answers at a time. An error of Omniconv is answered as its text, ``{"error": text}``, with status 422.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeAlias

from omniconv.errors import OmniconvError
from omniconv.inline import write_json

LOOPBACK: Final = "127.0.0.1"
MOST_BYTES: Final = 2**16
"""Length of a request's body, at most."""
MOST_AT_ONCE: Final = 2
"""Answers that are worked out at a time; a further request is told to come again."""
SECONDS: Final = 10
"""How long a connection may be silent while it is read or written [s]."""
POLL_SECONDS: Final = 0.05
"""How long the end of a ``with`` waits for the server to notice, at most [s]."""

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # all else is in the page itself
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",  # with the line above: finer clocks
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Reply: TypeAlias = Callable[[Any], Any]
"""From what a request says, as JSON, to what is answered; raises an `OmniconvError` where it is refused."""


class PageServer(ThreadingHTTPServer):
    """A page and its answers, served from when :meth:`serve_forever` is called, or inside of ``with``.

    Args:
        page: the HTML.
        answers: by the last part of their address.
        port: to listen on; 0 for any that is free.

    Raises:
        OSError: the port is taken or may not be listened on.
    """

    daemon_threads = True

    def __init__(self, page: str, answers: Mapping[str, Reply], port: int = 0) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.page, self.answers = page.encode(), dict(answers)
        self.token = secrets.token_urlsafe(24)
        self.turns = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a request may call this server."""
        return tuple(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    def __enter__(self) -> Self:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop serving."""
        self.shutdown()
        if self._thread is not None:
            self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is no news; everything else is a defect, whose traceback is printed."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = SECONDS
    server_version, sys_version = "Omniconv", ""

    def do_GET(self) -> None:
        """Give the page."""
        if self._is_allowed():
            if self._find_name() == "":
                self._send(200, "text/html; charset=utf-8", self.server.page)
            else:
                self._refuse(404, "there is nothing here")

    def do_POST(self) -> None:
        """Answer."""
        if not self._is_allowed():
            return
        name = self._find_name()
        answer = None if name is None else self.server.answers.get(name)
        length = self.headers.get("Content-Length", "")
        if answer is None:
            self._refuse(404, "there is nothing here")
        elif self.headers.get("Origin") not in (None, *(f"http://{host}" for host in self.server.hosts)):
            self._refuse(403, "another site asks")
        elif not (length.isascii() and length.isdigit()):
            self._refuse(411, "the request has no length")
        elif len(length) > 9 or int(length) > MOST_BYTES:
            self._refuse(413, f"the request has {length} bytes; need at most {MOST_BYTES}")
        elif not self.server.turns.acquire(blocking=False):
            self._refuse(503, f"{MOST_AT_ONCE} requests are being answered; come again")
        else:
            try:
                self._answer(answer, self.rfile.read(int(length)))
            finally:
                self.server.turns.release()

    def _answer(self, answer: Reply, body: bytes) -> None:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(400, "the request is not JSON")
            return
        try:
            found = answer(asked)
        except OmniconvError as error:
            self._refuse(422, str(error))
            return
        self._send(200, "application/json", write_json(found).encode())

    def _is_allowed(self) -> bool:
        """Whether a request knows the token and calls this server by its name."""
        token = self.path.split("/", 2)[1] if self.path.startswith("/") else ""
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(404, "there is nothing here")
            return False
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(421, "this server has another name")
            return False
        return True

    def _find_name(self) -> str | None:
        """What stands behind the token, without a query."""
        parts = self.path.partition("?")[0].split("/", 2)
        return parts[2] if len(parts) == 3 else None

    def _refuse(self, status: int, text: str) -> None:
        self._send(status, "application/json", write_json({"error": text}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: the address holds the token."""
