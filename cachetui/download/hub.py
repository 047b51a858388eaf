"""huggingface_hub's own download, verified after: for `--engine hub`, and for what a server sends whole only.

With hf_xet installed the library may use Xet; that path cannot be tested without the real service.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from cachetui.download import errors, hashing
from cachetui.download.engine import Wanted
from cachetui.download.errors import PullCancelled, PullError
from cachetui.download.spelling import HubName

_REASONS = {
    "GatedRepoError": errors.GATED, "RepositoryNotFoundError": errors.NO_REPO,
    "RevisionNotFoundError": errors.NO_REVISION,
    "EntryNotFoundError": errors.NO_FILE, "RemoteEntryNotFoundError": errors.NO_FILE,
}  # fmt: skip


def download(
    name: HubName,
    commit: str,
    wanted: Sequence[Wanted],
    *,
    cache: str,
    local_dir: str,
    progress: Callable[[int, int, str], None],
    cancelled: Callable[[], bool],
) -> dict[str, PullError]:
    """Get these contents with the library, then hash them. What failed, by path. Raises PullCancelled, OSError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    total, done = sum(w.size for w in wanted), 0
    failed: dict[str, PullError] = {}
    for w in wanted:
        for path in w.paths:
            if cancelled():
                raise PullCancelled
            bar = _bar(lambda count, path=path, done=done: progress(done + count, total, path), cancelled)  # type: ignore[misc]
            try:
                place = hf_hub_download(
                    name.repo,
                    path,
                    repo_type=name.kind,
                    revision=commit,
                    cache_dir=cache,
                    local_dir=local_dir or None,
                    tqdm_class=bar,
                )
            except (HfHubHTTPError, LocalEntryNotFoundError) as e:
                code = _REASONS.get(type(e).__name__, errors.SERVER)
                failed[path] = PullError(code, str(e).split("\n")[0][:300], "try again later, or --engine own")
                continue
            if (problem := _verify(place, w, path, cancelled)) is not None:
                failed[path] = problem
        done += w.size
        progress(done, total, w.paths[0])
    return failed


def _verify(place: str, wanted: Wanted, path: str, cancelled: Callable[[], bool]) -> PullError | None:
    fd = os.open(place, os.O_RDONLY)
    try:
        digest = hashing.of_file(fd, wanted.etag, os.fstat(fd).st_size, cancelled)
    finally:
        os.close(fd)
    if digest is None:
        raise PullCancelled
    if digest == wanted.etag:
        return None
    return PullError(
        errors.CONTENT,
        f"{path} came with content that is not what its hash says",
        f"it lies at {place}: delete it with cachetui rm and download it with --engine own",
    )


def _bar(tell: Callable[[int], None], cancelled: Callable[[], bool]) -> Any:
    """A progress bar that draws nothing, tells how far it is, and stops the download when asked to."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **rest: Any) -> None:
            rest |= {"disable": True}
            rest.pop("name", None)
            super().__init__(*args, **rest)
            self._came = 0

        def update(self, n: float | None = 1) -> None:
            self._came += int(n or 0)
            tell(self._came)
            if cancelled():
                raise PullCancelled

    return Bar
