"""What a loose folder's files ought to be: what `hf download --local-dir` recorded of them, and its listing.

Follows huggingface_hub's _local_folder.py and _tree_cache.py. A file written after its record was changed by
somebody: other content is no damage then.
"""

from __future__ import annotations

import os

from cachetui import afar
from cachetui.expected import (
    Digest,
    Expected,
    ExpectedFile,
    TreeRow,
    files_below,
    missing_files,
    named_digest,
    read_tree,
)
from cachetui.hub_layout import IGNORED
from cachetui.model import OFFLINE, Item, Problem
from cachetui.provenance import RECORDS, Download, downloads

_RECORD = "its download record"


def expected(item: Item) -> Expected:
    """Of a folder or file, wherever a link leads to it. Never raises."""
    found = Expected()
    path = os.path.join(item.root, item.path) if item.path else item.root
    lead = afar.reach(path)
    if OFFLINE in item.states or lead.stat is None:
        found.sort_in(item.problems)
        if not found.unknown:
            found.unknown.append(Problem("offline", f"lies at {lead.path}, which {lead.state}", path))
        return found
    files = _files(item, path, lead.real)
    folder = lead.real if item.kind == "folder" else os.path.dirname(lead.real)
    names = [name for _, name in files]
    records = downloads(folder, names)
    listed: dict[str, TreeRow] = {}
    for commit in dict.fromkeys(r.commit for r in records.values()):
        tree = read_tree(f"{folder}/{RECORDS}/trees/{commit}.json")
        listed |= {n: row for n, row in tree.items() if n not in records or records[n].commit == commit}
    for absolute, name in files:
        row = listed.get(name)
        digests = _digests(absolute, records.get(name), row)
        size = row.size if row is not None and digests and digests[0].firm else -1
        found.files.append(ExpectedFile(absolute, name, size, digests))
    if (problem := missing_files(listed, names, folder)) is not None:
        found.incomplete.append(problem)
    if item.parts:
        found.incomplete.append(Problem("unfinished-download", "a download did not end", folder))
    found.sort_in(item.problems)
    return found


def _files(item: Item, path: str, real: str) -> list[tuple[str, str]]:
    """(absolute path, name) of the content; of an archived item what lies at the other end of the link."""
    if os.path.islink(path) or not item.blobs:
        below = files_below(real)
        return [(a, n) for a, n in below if not n.startswith(f"{RECORDS}/") and n.rpartition("/")[2] not in IGNORED]
    prefix = f"{item.path}/" if item.kind == "folder" and item.path else ""
    partial = {n for part in item.parts for n in part.index}
    rows = [b for n, b in enumerate(item.blobs) if n not in partial]
    return [(f"{item.root}/{b.path}", b.path.removeprefix(prefix)) for b in rows]


def _digests(path: str, record: Download | None, row: TreeRow | None) -> tuple[Digest, ...]:
    if record is None:
        return () if row is None or row.digest is None else (row.digest._replace(firm=False),)
    try:
        unchanged = os.lstat(path).st_mtime - 1 <= record.when
    except OSError:
        unchanged = True
    (digest,) = named_digest(record.etag, _RECORD)
    return (digest._replace(firm=unchanged),)
