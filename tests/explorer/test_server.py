"""The server gives the page to who knows the token, answers in JSON, and refuses everything else."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from urllib.parse import urlsplit

import pytest

from omniconv.errors import ShapeError
from omniconv.explorer.answers import ANSWERS
from omniconv.explorer.modules import compile_asked
from omniconv.explorer.server import MOST_AT_ONCE, MOST_BYTES, PageServer
from omniconv.spec import parse


def echo(asked):
    return {"echo": asked}


def refuse(asked):
    raise ShapeError("no", need="yes")


@pytest.fixture
def server():
    with PageServer("<p>page</p>", {"echo": echo, "refuse": refuse, **ANSWERS}) as found:
        yield found


def ask(server, method="GET", name="", body=None, token=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    path = f"/{server.token if token is None else token}/{name}"
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_the_page_and_its_headers(server):
    status, text, headers = ask(server)
    assert (status, text) == (200, "<p>page</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert urlsplit(server.url).hostname == "127.0.0.1"
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert len(server.token) >= 32


def test_answers(server):
    assert json.loads(ask(server, "POST", "echo", '{"a": [1]}')[1]) == {"echo": {"a": [1]}}
    status, text, _ = ask(server, "POST", "refuse", "{}")
    assert (status, json.loads(text)) == (422, {"error": "no; need yes"})


def test_a_defect_is_printed_and_the_server_goes_on(capsys):
    with PageServer("", {"fail": lambda asked: 1 // asked, "echo": echo}) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            ask(server, "POST", "fail", "0")
        for _ in range(MOST_AT_ONCE + 1):
            assert ask(server, "POST", "fail", "1")[0] == 200
        assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_browser_that_hangs_up_is_no_news(server, capsys):
    with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(f"POST /{server.token}/echo HTTP/1.0\r\nHost: {server.hosts[0]}\r\n".encode())
        connection.sendall(b"Content-Length: 10\r\n\r\n1")
    assert ask(server)[0] == 200
    assert capsys.readouterr().err == ""


def test_tokens_differ(server):
    with PageServer("", {}) as other:
        assert other.token != server.token
        assert other.server_port != server.server_port


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"token": ""}, 404),
        ({"token": "guess"}, 404),
        ({"token": "%00"}, 404),
        ({"name": "other"}, 404),
        ({"name": "echo"}, 404),
        ({"name": "../etc/passwd"}, 404),
        ({"method": "POST", "name": "none", "body": "{}"}, 404),
        ({"method": "POST", "body": "{}"}, 404),
        ({"method": "PUT", "body": "{}"}, 501),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"method": "POST", "name": "echo", "body": "{}", "Origin": "https://evil.example"}, 403),
        ({"method": "POST", "name": "echo", "body": "{}", "Origin": "null"}, 403),
        ({"method": "POST", "name": "echo", "body": "{"}, 400),
        ({"method": "POST", "name": "echo", "body": b"\xff\xfe"}, 400),
        ({"method": "POST", "name": "echo", "body": "[" * 60000}, 400),
        ({"method": "POST", "name": "echo", "Content_Length": "-1"}, 411),
        ({"method": "POST", "name": "echo", "Content_Length": str(MOST_BYTES + 1)}, 413),
        ({"method": "POST", "name": "echo", "Content_Length": "9" * 40}, 413),
        ({"method": "POST", "name": "echo", "Transfer_Encoding": "chunked"}, 411),
    ],
    ids=str,
)
def test_everything_else_is_refused(server, request_, status):
    found, text, _ = ask(server, **request_)
    assert found == status
    assert "page" not in text
    assert server.token not in text


def test_own_origins_are_allowed(server):
    for host in server.hosts:
        assert ask(server, "POST", "echo", "1", Host=host, Origin=f"http://{host}")[0] == 200


def test_more_requests_than_may_be_answered_at_once_are_sent_away():
    begun, go = threading.Semaphore(0), threading.Event()

    def wait(asked):
        begun.release()
        go.wait(10)
        return 1

    with PageServer("", {"wait": wait}) as server:
        threads = [threading.Thread(target=ask, args=(server, "POST", "wait", "1")) for _ in range(MOST_AT_ONCE)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert begun.acquire(timeout=10)
        assert ask(server, "POST", "wait", "1")[0] == 503
        go.set()
        for thread in threads:
            thread.join()
        assert ask(server, "POST", "wait", "1")[0] == 200


def test_a_taken_port_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            PageServer("", {}, taken.getsockname()[1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (None, "the request names no layer"),
        ({"text": 3}, "the request names no layer"),
        ({"text": "depthwise"}, "the request names no layer"),
        ({"text": "pointwise ic1 oc1 kw1 " + " " * 5000}, "letters; need at most"),
        ({"text": "pointwise ic1 oc1 kw1", "shape": "1"}, "is not a list"),
        ({"text": "pointwise ic1 oc1 kw1", "shape": [1, 2, 3]}, "has 2 channels; need in_channels=1"),
        ({"text": "pointwise ic1 oc1 kw1", "shape": [1, 1, 2.5]}, "shape"),
        ({"text": "grouped ic4 oc4 kw3 g3"}, "groups=3 does not divide in_channels=4; need"),
    ],
)
def test_a_wrong_layer_is_refused_in_the_words_of_its_error(server, asked, message):
    status, text, _ = ask(server, "POST", "check", json.dumps(asked))
    assert status == 422
    assert message in json.loads(text)["error"]


def test_a_layer_is_compiled(server):
    line = "convolution n1 ic1 oc2 iw9 kw3"
    status, text, _ = ask(server, "POST", "compile", json.dumps({"text": line, "shape": None}))
    assert status == 200
    assert json.loads(text) == json.loads(json.dumps(compile_asked(*parse(line))))
    status, text, _ = ask(server, "POST", "compile", json.dumps({"text": line, "shape": [1, 1, 2**25]}))
    assert status == 422
    assert "need at most" in json.loads(text)["error"]


def test_a_line_is_checked(server):
    found = json.loads(ask(server, "POST", "check", json.dumps({"text": "convolution ic1 oc2 iw9 kw3"}))[1])
    assert found["shape"] == [1, 1, 9]
    assert found["output"] == [1, 2, 7]
    assert found["spec"]["kernel_size"] == [3]
