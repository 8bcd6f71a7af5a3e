"""``omniconv stream``: WAV files, raw samples on pipes, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import struct
import sys
import wave

import numpy as np
import onnx
import pytest
from tests.streams.models import build_denoiser, build_global

import omniconv as oc
from omniconv.cli.wav import Sound, SoundWriter, read_blocks, read_header
from omniconv.errors import StorageError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "denoiser.onnx"
    onnx.save(build_denoiser(), str(path))
    return path


def write_wav(path, samples, rate=16000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def test_a_stereo_file_runs_channel_by_channel(invoke, net, tmp_path):
    x = RNG.integers(-400, 400, (1000, 2))
    write_wav(tmp_path / "in.wav", x)
    found = invoke("stream", net, tmp_path / "in.wav", tmp_path / "out.wav", "--exact", "--json")
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert (report["samples"], report["channels"], report["rate"], report["chunk"]) == (1000, 2, 16000, 160)
    assert (report["latency"], report["clipped"]) == (2, 0)
    with wave.open(str(tmp_path / "out.wav")) as file:
        y = np.frombuffer(file.readframes(2000), "<i2").reshape(-1, 2)
    run = oc.compile(str(net), exact=True)
    for channel in range(2):
        want = run(np.float32(x[None, None, :, channel] / 2**15))[0, 0]
        assert np.array_equal(y[:, channel], np.rint(want * 2**15))


def test_floats_and_words(invoke, net, tmp_path):
    x = RNG.standard_normal((1, 500)).astype(np.float32) * 4
    writer = SoundWriter(tmp_path / "in.wav", None, Sound(1, 8000, "f32le"), raw=False)
    writer.write(x)
    writer.finish()
    found = invoke("stream", net, tmp_path / "in.wav", tmp_path / "out.wav", "--chunk", 77)
    assert found.code == 0, found.err
    for words in ("500 samples of 1 channel at 8000 Hz", "latency 2 samples", "chunks of 77"):
        assert words in found.out
    with (tmp_path / "out.wav").open("rb") as file:
        sound, size = read_header(file, "out.wav")
        y = np.concatenate(list(read_blocks(file, sound, size, 64, "out.wav")), 1)
    np.testing.assert_allclose(y[0], oc.compile(str(net))(x[None])[0, 0], rtol=1e-5, atol=1e-4)
    invoke("stream", net, tmp_path / "in.wav", tmp_path / "short.wav", "--format", "s16le")
    with wave.open(str(tmp_path / "short.wav")) as file:
        assert np.abs(np.frombuffer(file.readframes(500), "<i2")).max() > 2**15 - 2  # clipped, not wrapped


def test_sound_is_not_written_over(invoke, net, tmp_path):
    (tmp_path / "in.wav").write_bytes(b"RIFF")
    found = invoke("stream", net, tmp_path / "in.wav", tmp_path / "in.wav")
    assert (found.code, "is the file that is read" in found.err) == (2, True), found.err
    assert (tmp_path / "in.wav").read_bytes() == b"RIFF"


def test_pipes(invoke, net, tmp_path, monkeypatch):
    x = RNG.integers(-300, 300, 333).astype("<i2")
    fed, taken = io.BytesIO(x.tobytes()), io.BytesIO()
    monkeypatch.setattr("omniconv.cli.stream.stdin", lambda: fed)
    monkeypatch.setattr("omniconv.cli.stream.stdout", lambda: taken)
    words = ("stream", net, "-", "-", "--rate", 8000, "--format", "s16le", "--exact")
    found = invoke(*words)
    assert found.code == 0, found.err
    want = oc.compile(str(net), exact=True)(np.float32(x[None, None] / 2**15))[0, 0]
    assert np.array_equal(np.frombuffer(taken.getvalue(), "<i2"), np.rint(want * 2**15))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-", "out.wav"), 2, "--rate 16000"),
        (("in.wav", "out.wav", "--rate", "8000"), 2, "belong to IN -"),
        (("in.wav", "out.wav", "--format", "mp3"), 2, "s16le"),
        (("missing.wav", "out.wav"), 3, "missing.wav"),
        (("bad.wav", "out.wav"), 3, "is no WAV file"),
        (("cut.wav", "out.wav"), 3, "ends too early: 10 bytes missing"),
        (("odd.wav", "out.wav"), 3, "part of a frame missing"),
        (("in.wav", "."), 3, "'.' is a folder"),
    ],
)
def test_what_does_not_fit(invoke, net, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "in.wav", RNG.integers(-9, 9, (50, 1)))
    whole = (tmp_path / "in.wav").read_bytes()
    (tmp_path / "bad.wav").write_bytes(b"OggS" + whole[4:])
    (tmp_path / "cut.wav").write_bytes(whole[:-10])
    (tmp_path / "odd.wav").write_bytes(whole[:40] + struct.pack("<I", 101) + whole[44:] + b"\0\0")
    found = invoke("stream", net, *words)
    assert found.code == code, found.err
    assert message in found.err
    assert not list(tmp_path.glob("*out*"))


def test_a_pipe_that_closes_is_no_error(invoke, net, monkeypatch):
    class Closed(io.BytesIO):
        def write(self, content):
            raise BrokenPipeError(errno.EPIPE, "closed")

    monkeypatch.setattr("omniconv.cli.stream.stdin", lambda: io.BytesIO(bytes(4000)))
    monkeypatch.setattr("omniconv.cli.stream.stdout", Closed)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)
    monkeypatch.setattr("omniconv.cli.guard.os.dup2", lambda *_: None)
    found = invoke("stream", net, "-", "-", "--rate", 8000)
    assert (found.code, found.err) == (0, "")


def test_sound_without_samples(invoke, net, tmp_path):
    write_wav(tmp_path / "in.wav", RNG.integers(-9, 9, (0, 2)))
    found = invoke("stream", net, tmp_path / "in.wav", tmp_path / "out.wav")
    assert (found.code, found.out[:24]) == (0, "0 samples of 2 channels "), found.err


def test_where_samples_end():
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    tail = b"LIST\4\0\0\0abcd"
    for riff, size, want in ((36, 0, None), (48, 0, 0), (2**32 - 1, 0, None), (0, 2**32 - 1, None), (40, 4, 4)):
        head = struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", size)
        assert read_header(io.BytesIO(head + tail), "x.wav")[1] == want


def test_a_global_model_is_refused(invoke, tmp_path):
    onnx.save(build_global(), str(tmp_path / "net.onnx"))
    write_wav(tmp_path / "in.wav", RNG.integers(-9, 9, (50, 2)))
    found = invoke("stream", tmp_path / "net.onnx", tmp_path / "in.wav", tmp_path / "out.wav")
    assert found.code == 3
    assert "mean over all positions" in found.err


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (struct.pack("<HHIIHH", 1, 1, 8000, 24000, 3, 24), "24 bits"),
        (struct.pack("<HHIIHH", 1, 0, 8000, 16000, 0, 16), "0 channels"),
        (struct.pack("<HHIIHH", 1, 2, 8000, 16000, 2, 16), "2 bytes a frame"),
        (struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16), "0 samples a second"),
        (b"short", "5 bytes"),
        (None, "samples before"),
    ],
)
def test_headers_that_do_not_fit(form, message):
    chunk = b"" if form is None else struct.pack("<4sI", b"fmt ", len(form)) + form + b"\0" * (len(form) % 2)
    file = io.BytesIO(b"RIFF\0\0\0\0WAVE" + chunk + b"data\xff\xff\xff\x7f")
    with pytest.raises(StorageError, match=message):
        read_header(file, "x.wav")


def test_a_header_without_samples():
    with pytest.raises(StorageError, match="ends before its samples"):
        read_header(io.BytesIO(b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff"), "x.wav")


def test_inspect_says_it(invoke, tmp_path):
    onnx.save(build_denoiser(), str(tmp_path / "net.onnx"))
    onnx.save(build_global(), str(tmp_path / "global.onnx"))
    found = invoke("inspect", tmp_path / "net.onnx", "--shape", "1,1,200", "--no-time")
    assert "Streams along axis 2: 2 positions late, in hops of 1" in found.out
    found = invoke("inspect", tmp_path / "global.onnx", "--shape", "1,2,200", "--no-time")
    assert "In the way of streams along axis 2: mean over all positions" in found.out
