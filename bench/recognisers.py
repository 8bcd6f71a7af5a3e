"""Networks that read lines of text, from plain PyTorch modules: with LSTM, with attention, and letter by letter.

All take an image of a line, ``(1, 1, 32, 256)``, and give the scores of :data:`LETTERS` letters at each place: the
first two at 64 places for a decoder such as CTC, the last one at the places of its own text.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

LETTERS: Final = 96
LONGEST: Final = 12
"""Letters that :class:`Speller` reads."""
WIDTH: Final = 128


def make_columns() -> nn.Sequential:
    """An image to ``(1, WIDTH, 1, 64)``: a vector for every fourth column."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 32, (2, 2)), (32, 64, (2, 2)), (64, 128, (2, 1)), (128, WIDTH, (2, 1))):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d((2, 1)))


class Crnn(nn.Module):  # type: ignore[misc]
    """Convolutions, then two LSTMs in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = make_columns()
        self.lines = nn.LSTM(WIDTH, WIDTH, num_layers=2, bidirectional=True, batch_first=True)
        self.scores = nn.Linear(2 * WIDTH, LETTERS)

    def forward(self, image: Tensor) -> Tensor:
        """``(1, 64, LETTERS)``."""
        places = self.columns(image).squeeze(2).transpose(1, 2)
        scores: Tensor = self.scores(self.lines(places)[0])
        return scores.log_softmax(2)


class Attentive(nn.Module):  # type: ignore[misc]
    """Convolutions, then two layers of attention among all places."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = make_columns()
        self.position = nn.Parameter(torch.zeros(1, 64, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, activation="gelu", batch_first=True, norm_first=True)
        self.lines = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.scores = nn.Linear(WIDTH, LETTERS)

    def forward(self, image: Tensor) -> Tensor:
        """``(1, 64, LETTERS)``."""
        places = self.columns(image).squeeze(2).transpose(1, 2) + self.position
        scores: Tensor = self.scores(self.lines(places))
        return scores.log_softmax(2)


class Speller(nn.Module):  # type: ignore[misc]
    """An LSTM in both directions, and a decoder that looks where it wants to and is told the letter it read before."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = make_columns()
        self.lines = nn.LSTM(WIDTH, WIDTH // 2, bidirectional=True, batch_first=True)
        self.letters = nn.Embedding(LETTERS, WIDTH)
        self.where = nn.Linear(WIDTH, WIDTH)
        self.cell = nn.GRUCell(2 * WIDTH, WIDTH)
        self.scores = nn.Linear(WIDTH, LETTERS)

    def forward(self, image: Tensor) -> Tensor:
        """``(1, LONGEST, LETTERS)``."""
        places = self.lines(self.columns(image).squeeze(2).transpose(1, 2))[0]
        state = places.mean(1)
        letter = torch.zeros(1, dtype=torch.int64)
        rows = []
        for _ in range(LONGEST):
            weights = (self.where(state).unsqueeze(1) @ places.transpose(1, 2) / WIDTH**0.5).softmax(2)
            seen = (weights @ places).squeeze(1)
            state = self.cell(torch.cat([seen, self.letters(letter)], 1), state)
            rows.append(self.scores(state))
            letter = rows[-1].argmax(1)
        return torch.stack(rows, 1)


RECOGNISERS: Final[dict[str, Any]] = {"crnn": Crnn, "attentive": Attentive, "speller": Speller}
