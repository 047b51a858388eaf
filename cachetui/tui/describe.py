"""What stands in the details pane, as lines of Content made for a width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from textual.content import Content

from cachetui import units
from cachetui.model import ARCHIVED, FOREIGN, LIES_IN, OFFLINE, OK, PINNED, Item, Problem, Revision, RootScan
from cachetui.tui.facts import Facts, load_hint
from cachetui.tui.rows import revision_note, revision_title
from cachetui.tui.text import Part, hang, line, words
from cachetui.tui.widgets.columns import short_path

if TYPE_CHECKING:
    from cachetui.inuse import User

LOAD = "load it"
_LABEL = 12
_MANY = 12
"""Rows of one list that are shown before "and N more"."""
DIM, STRONG, WARN, BAD = "$foreground-muted", "bold", "$text-warning", "$text-error"


@dataclass(frozen=True, slots=True)
class Page:
    """Where the lines are made for."""

    width: int
    now: float
    binary: bool
    home: str

    def size(self, count: int | None) -> str:
        """Bytes for people; `…` until known."""
        return "…" if count is None else units.size(count, binary=self.binary)

    def row(self, label: str, *value: str | Part | Content) -> list[Content]:
        """A label and its value, wrapped beside it."""
        return hang(words(label, DIM), line(*value), _LABEL, self.width)


def item_page(
    item: Item,
    facts: Facts | None,
    page: Page,
    users: Sequence[User] = (),
    verdict: tuple[float, Mapping[str, Any]] | None = None,
    newer: str = "",
    needs: Sequence[Content] = (),
) -> list[Content]:
    """Everything about one item.

    `users` have it open, `verdict` is what was verified, and when (POSIX seconds), `newer` the commit upstream,
    `needs` the lines on the memory it needs.
    """
    out = _identity(item, page)
    out += _sizes(item, facts, page)
    out += _problems(item.problems, page)
    out += _away(item, page)
    out += _newer(newer, page)
    out += _use(item, users, page)
    out += needs
    out += _verified(verdict, page)
    if facts is not None:
        out += _composition(item, facts, page)
        out += _holders(facts, page)
    out += _revisions(item, page)
    out += _place(item, page)
    return out


def _identity(item: Item, page: Page) -> list[Content]:
    t = item.traits
    what = [w for w in (item.kind, t.family, t.parameters, t.quantization) if w]
    states = [s for s in item.states if s != OK]
    out = words(item.name, STRONG).wrap(page.width)
    out += line((" · ".join(what), DIM)).wrap(page.width)
    if states:
        well = set(states) <= {PINNED, ARCHIVED}
        out += line((", ".join(states), "$text-success" if well else WARN)).wrap(page.width)
    return [*out, Content("")]


def _sizes(item: Item, facts: Facts | None, page: Page) -> list[Content]:
    here = f", here {page.size(item.allocated)}" if item.away else f", on disk {page.size(item.allocated)}"
    out = page.row("size", (page.size(item.size), STRONG), (here, DIM))
    if facts is None or facts.frees is None:
        return out + page.row("deleting", ("known when everything is read", DIM))
    if facts.shared:
        out += page.row("own", page.size(facts.own), (f", shared {page.size(facts.shared)}", DIM))
    up_to = "up to " if facts.up_to else ""
    return out + page.row("deleting", f"frees {up_to}", (page.size(facts.frees), STRONG))


def _away(item: Item, page: Page) -> list[Content]:
    """What can be done about where it lies."""
    if OFFLINE in item.states:
        advice = "if its drive is there under another name, A points the link to it"
    elif ARCHIVED in item.states:
        advice = "r brings it back; programs load it through the link while its drive is there"
    elif FOREIGN in item.states:
        advice = "nothing on this machine links to it: A sets the link, so that programs load it from there"
    else:
        return []
    return page.row("", (f"→ {advice}", DIM))


def _newer(commit: str, page: Page) -> list[Content]:
    if not commit:
        return []
    out = page.row("outdated", ("main upstream is ", WARN), (commit[:7], WARN))
    return out + page.row("", ("→ D updates it; the revision that is here stays until it is deleted", DIM))


def _problems(problems: Sequence[Problem], page: Page) -> list[Content]:
    out: list[Content] = []
    for n, problem in enumerate(problems[:_MANY]):
        out += page.row("problems" if n == 0 else "", ("! ", BAD), (_short(problem.message, page), BAD))
        if problem.path:
            out += page.row("", (short_path(problem.path, page.home), DIM))
        if problem.hint:
            out += page.row("", f"→ {problem.hint}")
    return [*out, *_more(len(problems), page)]


def _use(item: Item, users: Sequence[User], page: Page) -> list[Content]:
    t = item.traits
    out = page.row("last used", _ago(item.last_used, page.now))
    if names := [f"{u.name} ({u.pid})" if u.pid else u.name for u in users if u.name]:
        more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
        out += page.row("in use", (f"open now in {', '.join(names[:_MANY])}{more}", WARN))
    if t.loads_with:
        out += page.row("loads with", ", ".join(t.loads_with))
    if t.purpose:
        out += page.row("good for", t.purpose)
    if hint := dict(item.extra).get(LOAD) or load_hint(item):
        out += page.row(LOAD, (hint, "$text-success"))
    return [*out, Content("")]


def _verified(verdict: tuple[float, Mapping[str, Any]] | None, page: Page) -> list[Content]:
    if verdict is None:
        return []
    when, said = verdict
    outcome = str(said.get("outcome", ""))
    style = {"intact": "$text-success", "damaged": BAD}.get(outcome, WARN)
    out = page.row("verified", (outcome.replace("-", " "), style), (f", {_ago(when, page.now)}", DIM))
    for finding in [f for f in said.get("findings", ()) if isinstance(f, Mapping)][:_MANY]:
        name = str(finding.get("name") or "")
        out += page.row("", (f"{name}: " if name else "", DIM), (str(finding.get("message", "")), style))
    return [*out, Content("")]


def _ago(when: float | None, now: float) -> str:
    age = units.age(when, now)
    return age if age in ("never", "now") else f"{age} ago"


def _composition(item: Item, facts: Facts, page: Page) -> list[Content]:
    out: list[Content] = []
    for role, count, size in facts.roles:
        kinds = ", ".join(item.traits.formats) if role == "weights" else ""
        files = f"{count:,} file{'s' if count != 1 else ''}"
        out += page.row(role, page.size(size), (f"  {files}{', ' + kinds if kinds else ''}", DIM))
    if item.traits.redundant:
        names = ", ".join(item.traits.redundant[:4]) + (", …" if len(item.traits.redundant) > 4 else "")
        out += page.row(
            "redundant", (page.size(facts.redundant), WARN), f" the same weights again: {names}; the file can go"
        )
    return [*out, Content("")] if out else out


def _holders(facts: Facts, page: Page) -> list[Content]:
    out: list[Content] = []
    for n, holder in enumerate(facts.holders[:_MANY]):
        where = short_path(holder.item.root, page.home)
        out += page.row(
            "shared with" if n == 0 else "", holder.item.name, (f"  {page.size(holder.size)}, {where}", DIM)
        )
    out += _more(len(facts.holders), page)
    return [*out, Content("")] if out else out


def _revisions(item: Item, page: Page) -> list[Content]:
    everything = [r for r in item.revisions + item.parts if r.commit]
    out: list[Content] = []
    for n, revision in enumerate(everything[:_MANY]):
        note = revision_note(revision)
        age = f", {units.age(revision.last_modified, page.now)}" if revision.last_modified else ""
        out += page.row(
            "revisions" if n == 0 else "",
            revision_title(revision),
            f"  {note}",
            (f"  {page.size(revision.size)}{age}", DIM),
        )
    out += _more(len(everything), page)
    return [*out, Content("")] if out else out


def _place(item: Item, page: Page) -> list[Content]:
    path = f"{item.root}/{item.path}" if item.path else item.root
    away = dict(item.extra).get(LIES_IN)
    out = [] if away is None else page.row(LIES_IN, short_path(away, page.home))
    out += page.row(LIES_IN if away is None else "its link", (short_path(path, page.home), DIM))
    out += page.row("files", (f"{item.file_count:,}", DIM))
    if item.uid >= 0:
        out += page.row("owner", (_owner(item.uid, item.gid), DIM))
    for label, value in item.extra:
        if label not in (LOAD, LIES_IN):
            out += page.row(label, _readable(value, page))
    return out


def _readable(value: str, page: Page) -> str:
    """A point in time as an age, paths with `~`; anything else as it is."""
    try:
        return _ago(datetime.fromisoformat(value).timestamp(), page.now) if len(value) >= 19 else value
    except ValueError:
        return _short(short_path(value, page.home), page)


def _short(text: str, page: Page) -> str:
    """A sentence, its paths with `~` for the home folder."""
    return text.replace(f" {page.home}/", " ~/") if page.home else text


def _owner(uid: int, gid: int) -> str:
    try:
        import grp
        import pwd

        return f"{pwd.getpwuid(uid).pw_name}:{grp.getgrgid(gid).gr_name}"
    except (ImportError, KeyError):
        return f"{uid}:{gid}"


def _more(count: int, page: Page) -> list[Content]:
    return page.row("", (f"and {count - _MANY} more", DIM)) if count > _MANY else []


def revision_page(item: Item, revision: Revision, page: Page) -> list[Content]:
    """One revision or part of an item."""
    out = words(revision_title(revision), STRONG).wrap(page.width)
    out += line((f"of {item.name}", DIM)).wrap(page.width)
    out += [Content("")]
    if not revision.is_part:
        out += page.row("commit", revision.commit)
    out += page.row("refs", revision_note(revision))
    out += page.row("size", (page.size(revision.size), STRONG), (f"  {len(revision.names):,} files", DIM))
    if revision.last_modified:
        out += page.row("changed", _ago(revision.last_modified, page.now))
    out += _problems(revision.problems, page)
    return out + page.row("lies in", (short_path(f"{item.root}/{revision.path}", page.home), DIM))


def file_page(item: Item, revision: Revision, name: str, page: Page) -> list[Content]:
    """One file of a revision."""
    from cachetui import formats

    out = words(name, STRONG).wrap(page.width)
    out += line((f"of {item.name}", DIM)).wrap(page.width)
    out += [Content("")]
    at = revision.index[revision.names.index(name)]
    if at < 0:
        return out + page.row("problem", ("its content is missing", BAD))
    blob = item.content[at]
    also = [r for r in item.revisions if r is not revision and name in r.names]
    again = sum(1 for r in item.revisions for n in r.index if n == at)
    out += page.row("size", (page.size(blob.size), STRONG), (f", on disk {page.size(blob.allocated)}", DIM))
    out += page.row("role", formats.role(name))
    out += page.row("changed", _ago(blob.mtime, page.now))
    if name in item.traits.redundant:
        out += page.row("redundant", ("the same weights are there in another format", WARN))
    if again > 1:
        out += page.row("named", f"{again} times in this item")
    if also:
        out += page.row("also in", ", ".join(revision_title(r) for r in also[:_MANY]))
    if blob.nlink > 1:
        out += page.row("hard links", f"{blob.nlink}: the space comes back when the last one goes")
    return out + page.row("content", (short_path(f"{item.root}/{blob.path}", page.home), DIM))


def root_page(root: RootScan, title: str, page: Page) -> list[Content]:
    """One folder that a store keeps its things in."""
    r = root.root
    out = words(title, STRONG).wrap(page.width)
    out += page.row("folder", short_path(r.path, page.home))
    if r.given and r.given != r.path:
        out += page.row("given as", r.given)
    out += page.row("because of", r.origin)
    if r.offline:
        out += page.row("", ("offline: its drive is not there now", WARN))
        return [*out, *_problems((*r.problems, *root.problems), page), Content("")]
    out += page.row("size", (page.size(root.size), STRONG), (f", on disk {page.size(root.allocated)}", DIM))
    if root.away:
        out += page.row("elsewhere", page.size(root.away), ("  behind links, counted where it lies", DIM))
    out += page.row("items", f"{len(root.items):,}")
    out += page.row("other", page.size(root.other), ("  locks, tokens, folders: no items", DIM))
    if not r.writable:
        out += page.row("", ("read-only: nothing in it can be deleted by you", WARN))
    if not root.complete:
        out += page.row("", ("reading was stopped: there may be more", WARN))
    out += _problems((*r.problems, *root.problems), page)
    return [*out, Content("")]
