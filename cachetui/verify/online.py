"""Asking the Hub, only where the user wants it: hashes that nothing here knows, and what a revision ought to hold.

Uses huggingface_hub's own client, so its variables (HF_HUB_OFFLINE, HF_ENDPOINT) and login count. What does not
work is said in words and decides nothing.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from cachetui.expected import Expected, TreeRow, missing_files, named_digest
from cachetui.hub_layout import COMMIT, ID_PREFIX
from cachetui.model import Item, Revision
from cachetui.subsets import known

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_MAX_FILES = 100_000
_SECONDS = 20.0
_SOURCE = "the Hub"


class Hub:
    """The Hub, asked once for each revision."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` hears, once, why nothing can be asked, and what could not be answered."""
        self._say = say
        self._off = False

    def ask(self, item: Item, expected: Expected) -> None:
        """Complete what an item ought to be (checking.Ask). Never raises for what the network does."""
        if self._off or item.store != "hf" or item.kind not in ID_PREFIX:
            return
        base = os.path.realpath(os.path.join(item.root, item.path))
        for revision in item.revisions:
            if COMMIT.fullmatch(revision.commit) and self._is_wanted(item, revision, expected, base):
                self._complete(item, revision, expected, base)

    def _is_wanted(self, item: Item, revision: Revision, expected: Expected, base: str) -> bool:
        """Whether something of a revision is not known here: a file without a hash, or what it ought to hold."""
        if not os.path.exists(f"{base}/trees/{revision.commit}.json"):
            return True
        folder = f"{item.root}/{revision.path}/"
        return any(not f.digests and f.path.startswith(folder) for f in expected.files)

    def _complete(self, item: Item, revision: Revision, expected: Expected, base: str) -> None:
        listed = self._listing(item, revision.commit)
        if not listed:
            return
        folder = f"{base}/snapshots/{posixpath.basename(revision.path)}"
        rows = {row.digest.value: row for row in listed.values() if row.digest is not None}
        for n, file in enumerate(expected.files):
            if file.digests:  # its hash is known: of the same content, the size is too
                same = next((rows[d.value] for d in file.digests if d.value in rows), None)
                if same is not None and file.size < 0:
                    expected.files[n] = file._replace(size=same.size)
            elif file.path.startswith(f"{folder}/"):
                row = listed.get(file.path[len(folder) + 1 :])
                if row is not None and row.digest is not None:
                    expected.files[n] = file._replace(size=row.size, digests=(row.digest,))
        asked = known(os.path.dirname(base), posixpath.basename(base), revision.commit)
        problem = missing_files(listed, revision.names, folder, asked)
        if problem is not None and problem.message not in [p.message for p in expected.incomplete]:
            expected.incomplete.append(problem)

    def _listing(self, item: Item, commit: str) -> dict[str, TreeRow]:
        try:
            return dict(islice(self._rows(item, commit), _MAX_FILES))
        except ImportError:
            self._off = True
            self._say("--online needs huggingface_hub: pip install huggingface_hub")
        except Exception as e:  # whatever a client, a proxy or a server does: it decides nothing
            self._fail(item, e)
        return {}

    def _fail(self, item: Item, error: Exception) -> None:
        kind = type(error).__name__
        if kind == "OfflineModeIsEnabled":
            self._off = True
            self._say("HF_HUB_OFFLINE is set, so the Hub was not asked")
        elif "NotFound" in kind or "Gated" in kind:
            self._say(f"{item.name}: the Hub has no such repo or revision for you ({kind})")
        else:
            self._off = isinstance(error, OSError) or "Connect" in kind or "Timeout" in kind
            first = str(error).strip().split("\n")[0]
            self._say(f"{item.name}: the Hub could not be asked ({kind}: {first})")

    def _rows(self, item: Item, commit: str) -> Iterator[tuple[str, TreeRow]]:
        from huggingface_hub import HfApi

        info = HfApi().repo_info(item.name, revision=commit, repo_type=item.kind, files_metadata=True, timeout=_SECONDS)
        for entry in getattr(info, "siblings", None) or ():
            yield entry.rfilename, _row(entry)


def _row(entry: RepoSibling) -> TreeRow:
    value = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    digests = named_digest(value or "", _SOURCE)
    return TreeRow(-1 if entry.size is None else entry.size, digests[0] if digests else None)
