"""`explore`: the explorer in a notebook, and as a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from omniconv.explorer.data import make_data
from omniconv.explorer.document import make_document
from omniconv.explorer.start import Start, find_start
from omniconv.records import dataclass
from omniconv.spec import Spec

HEIGHT = 760
"""Of the frame in a notebook [pixels]."""


@dataclass(frozen=True)
class Exploration:
    """The explorer with one layer open. A notebook (Jupyter, marimo) shows it as the last value of a cell.

    Example:
        >>> import omniconv as oc
        >>> oc.explore("transposed")
        <Exploration of transposed n2 ic3 oc5 ih5 iw4 ...>
    """

    start: Start

    def page(self, documentation: str | None = None) -> str:
        """The page as the text of one HTML file, which needs nothing else.

        Args:
            documentation: address of the documentation that it links to; default: the one that the package declares.
        """
        spec, shape, kind = self.start
        return make_document(make_data(spec, shape, kind=kind, documentation=documentation))

    def save(self, path: str | os.PathLike[str], *, documentation: str | None = None) -> Path:
        """Write the page, whole or not at all.

        Args:
            path: of the file.
            documentation: as for `page`.

        Raises:
            OSError: a file that cannot be written.
        """
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(self.page(documentation), encoding="utf-8", newline="\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _repr_html_(self) -> str:
        """The page in a frame of its own: it runs its script and saves pictures, and cannot touch the notebook."""
        # Characters as numbers: the policy knows the script by its hash, whatever encoding a notebook is read in.
        document = escape(self.page(), quote=True).encode("ascii", "xmlcharrefreplace").decode("ascii")
        return (
            f'<iframe title="Omniconv explorer" sandbox="allow-scripts allow-downloads allow-popups" '
            f'style="width:100%;height:{HEIGHT}px;border:0" srcdoc="{document}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<Exploration of {self.start.spec.text(self.start.shape)}>"


def explore(spec: str | Spec | None = None, shape: Sequence[int] | None = None) -> Exploration:
    """Open a layer in the explorer: what each output reads, what each input feeds, and the layer at work on a picture.

    Args:
        spec: the name of a kind, a problem line, or a `Conv` or `Chain`; default: the standard layer.
        shape: of the input, channels first; default: what the line says, else one that fits.

    Raises:
        SpecError: a name that no kind has, or a line outside the grammar.
        ShapeError: an input that the layer does not take.
    """
    return Exploration(find_start(spec, shape))
