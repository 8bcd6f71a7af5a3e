from __future__ import annotations

import pytest

from omniconv.errors import LimitError, SpecError
from omniconv.limits import VARIABLE, check_memory, format_size, memory_limit, parse_size, physical_memory


def test_default_is_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert memory_limit() == physical_memory() // 2 > 0
    monkeypatch.setenv(VARIABLE, "  ")
    assert memory_limit() == physical_memory() // 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("3k", 3072),
        ("2M", 2**21),
        ("5G", 5 * 2**30),
        ("1 T", 2**40),
        ("2GiB", 2**31),
        ("7MB", 7 * 2**20),
    ],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    assert parse_size(text) == size
    monkeypatch.setenv(VARIABLE, text)
    assert memory_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "0", "1.5G", "G", "1X", "12 34", "1e9", "１２", "9" * 30])
def test_malformed_sizes_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(SpecError, match=VARIABLE) as caught:
        memory_limit()
    assert repr(text) in str(caught.value)


def test_override_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert memory_limit(17) == 17
    for wrong in (0, -5, True):
        with pytest.raises(SpecError, match="memory_limit="):
            memory_limit(wrong)


def test_check_names_both_sizes_and_the_place() -> None:
    check_memory(100, "this", limit=100)
    with pytest.raises(LimitError, match=r"^the arena needs 1\.5 GiB, .* limit of 1\.0 GiB; .*=1536M \| net$"):
        check_memory(3 * 2**29, "the arena", limit=2**30, at="net")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**40, "1.0 TiB"),
        (2**62, "4096.0 PiB"),
    ],
)
def test_sizes_in_messages(size: int, text: str) -> None:
    assert format_size(size) == text
