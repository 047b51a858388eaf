"""What to know about a copy that is not quite its original, or not quite proven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cachetui.transfer.faults import NOT_KEPT
from cachetui.transfer.pieces import Kind, Piece
from cachetui.units import size


class Notes:
    """Collected while copying; `str` is for people."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.doubt = ""
        """Why reading back proves nothing about the medium."""
        self.cached = 0
        """Files of which pages stayed in memory."""
        self.twins = 0
        """Second names that became copies."""
        self._lost: dict[str, None] = {}
        self._flat = [p for p in pieces if p.flat]
        self._nowhere = [p for p in pieces if p.kind is Kind.LEFT and p.link and not p.size]
        blobs = sum(p.size for p in pieces if p.kind is Kind.LEFT)
        self._doubled = sum(p.size for p in self._flat) - blobs

    @contextmanager
    def kept(self, what: str, more: Sequence[int] = ()) -> Iterator[None]:
        """Note what a file system cannot keep, instead of failing. Other errors pass."""
        try:
            yield
        except OSError as e:
            if e.errno not in NOT_KEPT and e.errno not in more:
                raise
            self._lost[what] = None

    def __str__(self) -> str:
        said: list[str] = []
        if self.doubt:
            said.append(f"read back and equal, but whether from the medium cannot be proven: {self.doubt}")
        elif self.cached:
            said.append(f"{self.cached} files were read back while parts of them stayed in memory")
        if self._flat:
            more = f", {size(self._doubled)} of it more than once" if self._doubled > 0 else ""
            said.append(f"the drive holds no links: {len(self._flat)} files stand in their place{more}")
        if self._nowhere:
            said.append(f"{len(self._nowhere)} links that lead nowhere were left out")
        if self.twins:
            said.append(f"the drive holds no second names: {self.twins} of them are copies")
        if self._lost:
            said.append(f"the drive does not keep {', '.join(self._lost)}")
        return "; ".join(said)
