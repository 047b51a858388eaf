"""From what was found to a verdict: intact, damaged (what, where), incomplete, or cannot tell (why)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cachetui.expected import Digest
from cachetui.ledger import Scan
from cachetui.model import Item, Problem
from cachetui.verify import offers, structure
from cachetui.verify.looking import File, Inode, Look, Looker
from cachetui.verify.model import CANNOT_TELL, DAMAGED, INCOMPLETE, INTACT, OUTCOMES, Finding, Verdict
from cachetui.verify.reading import Reading

_SHOWN = 3
_DAMAGE = frozenset(("missing", "not-a-file", "unreadable-data"))


class Judge:
    """Judges items that were looked at and read."""

    def __init__(self, scan: Scan, looker: Looker) -> None:
        self._looker = looker
        self._copies = offers.Copies(scan)

    def verdict(self, number: int, *, partly: bool = False) -> Verdict:
        """Of one item. `partly`: some of its files were not read, and are left out."""
        look = self._looker.looks[number]
        item = look.item
        if look.files and not os.path.lexists(_place(item)):
            gone = Finding(_place(item), "gone", "it went away while it was verified: look again")
            return Verdict(item.id, item.root, CANNOT_TELL, (gone,), partly=partly)
        findings: list[Finding] = []
        unhashed: list[tuple[File, str | None]] = []
        compared = 0
        for file in look.files:
            reading = self._reading(file)
            if file.inode is not None and reading is None:
                continue
            found, hashed = self._file(item, file, reading)
            compared += hashed
            if found is not None:
                findings.append(found)
            elif not hashed:
                unhashed.append((file, structure.fault(file.expected.name, file.real)))
        findings += self._unhashed(item, unhashed)
        findings += self._problems(look)
        if not look.files and not findings:
            findings.append(Finding(_place(item), "nothing", "it holds no content that could be checked"))
        outcomes = {f.outcome for f in findings}
        outcome = next((o for o in OUTCOMES if o in outcomes), INTACT)
        read, remembered = self._bytes(look, number)
        return Verdict(item.id, item.root, outcome, tuple(findings), read, remembered, compared, partly)

    def is_settled(self, verdict: Verdict) -> bool:
        """Whether the copies it offers are known, or will not be read in this run: a bad one is no offer."""
        for finding in verdict.findings:
            try:
                st = os.lstat(finding.copy) if finding.copy else None
            except OSError:
                continue
            job = self._looker.jobs.get((st.st_dev, st.st_ino)) if st is not None else None
            if job is not None and job.reading is None:
                return False
        return True

    def _reading(self, file: File) -> Reading | None:
        if file.inode is None:
            return file.failed
        return self._looker.jobs[file.inode].reading

    def _bytes(self, look: Look, number: int) -> tuple[int, int]:
        read = remembered = 0
        for inode in {f.inode for f in look.files if f.inode is not None}:
            job = self._looker.jobs[inode]
            if job.owner == number and job.reading is not None:
                if job.remembered:
                    remembered += job.was.size
                else:
                    read += job.reading.read
        return read, remembered

    def _file(self, item: Item, file: File, reading: Reading | None) -> tuple[Finding | None, bool]:
        """What is wrong with a file (None: nothing that is known), and whether a hash said so."""
        wanted = file.expected
        firm = [d for d in wanted.digests if d.firm]
        if reading is not None and reading.code:
            if reading.code == "missing" and file.inode is None and self._is_away(item, file):
                message = f"{wanted.name} lies at {file.real}, which is not there now"
                return Finding(wanted.path, "offline", message, "plug in that drive", name=wanted.name), False
            # gone between looking and reading is somebody at work, not damage
            damage = reading.code in _DAMAGE and not (reading.code == "missing" and file.inode is not None)
            return self._finding(item, file, reading.code, reading.message, firm, damage), False
        if file.inode is None and wanted.size not in (-1, file.size) and (firm or not wanted.digests):
            message = f"it has {file.size} bytes instead of {wanted.size}"
            if why := structure.fault(wanted.name, file.real):
                message += f": {why}"
            return self._finding(item, file, "size", message, firm, True), True
        if reading is None:
            return None, False
        wrong = [d for d in wanted.digests if reading.digests.get(d.algorithm) != d.value]
        if not wrong:
            return None, True
        bad = [d for d in wrong if d.firm]
        if not bad:
            return None, False  # changed since: nothing says what it ought to be now
        digest = bad[0]
        is_now = reading.digests[digest.algorithm]
        message = f"its {digest.algorithm} is {is_now}, by {digest.source} it ought to be {digest.value}"
        if why := structure.fault(wanted.name, file.real):
            message += f"; {why}"
        return self._finding(item, file, "hash", message, firm, True), True

    def _is_away(self, item: Item, file: File) -> bool:
        """Whether a missing file lies on a drive that is not there, rather than being lost."""
        inside = file.real.startswith(os.path.join(item.root, ""))
        return file.real != file.expected.path and not inside and not self._looker.archives.directory_of(file.real)

    def _finding(self, item: Item, file: File, code: str, message: str, firm: list[Digest], damage: bool) -> Finding:
        name = file.expected.name
        if not damage:
            return Finding(file.real, code, message, name=name)
        copy = self._copies.find(firm, file.expected.size, self._is_bad) if firm else ""
        offer = offers.words(item, name, file.real, copy)
        digest = firm[0] if firm else Digest("", "", "")
        return Finding(file.real, code, message, offer, DAMAGED, name, copy, digest.algorithm, digest.value)

    def _is_bad(self, inode: Inode, digest: Digest) -> bool:
        """Whether an inode is known not to have this hash."""
        job = self._looker.jobs.get(inode)
        if job is None or job.reading is None:
            return False
        return job.reading.digests.get(digest.algorithm, digest.value if not job.reading.code else "") != digest.value

    def _unhashed(self, item: Item, files: Iterable[tuple[File, str | None]]) -> list[Finding]:
        """Damaged structures one by one, all else in one sentence."""
        found: list[Finding] = []
        names: list[str] = []
        sound = 0
        changed = 0
        for file, fault in files:
            if fault:
                found.append(self._finding(item, file, "structure", fault, [], True))
                continue
            names.append(file.expected.name)
            sound += fault == ""
            changed += bool(file.expected.digests)
        if not names:
            return found
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        count = "1 file has" if len(names) == 1 else f"{len(names)} files have"
        message = f"{count} no hash to compare with: {shown}"
        if changed:
            message += f"; {changed} changed after the download"
        if sound:
            message += f"; the structure of {sound} is sound"
        found.append(Finding(_place(item), "no-hash", message, offers.ask_online(item)))
        return found

    def _problems(self, look: Look) -> list[Finding]:
        expected = look.expected
        groups = ((expected.damaged, DAMAGED), (expected.incomplete, INCOMPLETE), (expected.unknown, CANNOT_TELL))
        return [_of_problem(look.item, p, outcome) for problems, outcome in groups for p in problems]


def _of_problem(item: Item, p: Problem, outcome: str) -> Finding:
    return Finding(p.path or _place(item), p.code, p.message, p.hint, outcome)


def _place(item: Item) -> str:
    return os.path.join(item.root, item.path) if item.path else item.root
