"""Filter expressions, as `hf cache ls --filter` takes them and more; the command line and the live filter share them.

    size>10GB  accessed>6mo  modified<=1d  type=model  refs=main       as in huggingface_hub/cli/cache.py
    own, shared, frees, allocated, files, state, store, quant, format, family, name, id, root, problem, loads
    words                                                               in the name, id or traits, in any case

Traits are quantization, family, parameters and formats.

States are ok, partial, damaged, orphan, pinned, archived (lies elsewhere and is there), offline (lies on a drive that
is not there), foreign (in an archive that nothing here links to), in-use, read-only, not-yours and, once the Hub was
asked, outdated (main is another commit there).

Terms side by side must all hold. `accessed>6mo` reads "last used more than 6 months ago". `~` is "contains".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachetui.ledger import Ledger
from cachetui.model import Item, Revision
from cachetui.units import parse_age, parse_size

NUMBERS = ("size", "own", "shared", "frees", "allocated", "files")
AGES = ("accessed", "modified")
TEXTS = ("type", "refs", "state", "store", "quant", "format", "family", "name", "id", "root", "problem", "loads")
KEYS = NUMBERS + AGES + TEXTS
_ALIASES = {"kind": "type", "states": "state", "quantization": "quant", "last-used": "accessed", "used": "accessed"}
OUTDATED = "outdated"
_STATES = (
    "ok", "partial", "damaged", "orphan", "pinned", "archived", "offline", "foreign", "in-use", "read-only",
    "not-yours", OUTDATED,
)  # fmt: skip

_TERM = re.compile(
    r"""\s*(?:
        (?P<key>[a-zA-Z_-]+)\s*(?P<op>==|!=|>=|<=|>|<|=|~)\s*
            (?P<value>"[^"]*"|\d+(?:\.\d+)?\s+(?:(?:[kmgtpe]i?)?b|s|m|h|d|w|mo|y)(?=\s|$)|[^\s"]+)?
      | "(?P<quoted>[^"]*)"
      | (?P<word>\S+)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}

_QUANT = re.compile(r"[\s,]+")
_Test = Callable[[Item, Revision | None], bool]


class FilterError(ValueError):
    """An expression that cannot be understood; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All terms of one expression. Call it with an item; `revision` asks about one revision of an item."""

    tests: tuple[_Test, ...] = ()

    def __call__(self, item: Item) -> bool:
        """Whether the item passes."""
        return all(test(item, None) for test in self.tests)

    def revision(self, item: Item, revision: Revision) -> bool:
        """Whether one revision passes: size, modified and refs are its own, the rest its item's."""
        return all(test(item, revision) for test in self.tests)


def compile_filter(
    text: str, ledger: Ledger | None = None, *, outdated: Callable[[Item], bool] | None = None, ask: str = ""
) -> Filter:
    """The test an expression stands for; an empty one lets everything pass. Raises FilterError.

    `own`, `shared` and `frees` need the ledger of a complete scan, `state=outdated` what a Hub answered; `ask`: how it
    is asked, for people.
    """
    tests: list[_Test] = []
    for match in _terms(text):
        if match["key"] is not None:
            value = (match["value"] or "").strip('"')
            if _is_outdated(match["key"], value):
                tests.append(_outdated(match["op"], match[0].strip(), outdated, ask))
            else:
                tests.append(_term(match["key"], match["op"], value, match[0].strip(), ledger))
        else:
            tests.append(_words(_needle(match)))
    return Filter(tuple(tests))


def asks_upstream(text: str) -> bool:
    """Whether an expression can only be judged after a Hub was asked."""
    return any(m["key"] is not None and _is_outdated(m["key"], (m["value"] or "").strip('"')) for m in _terms(text))


def _terms(text: str) -> Iterable[re.Match[str]]:
    at = 0
    while match := _TERM.match(text, at):
        at = match.end()
        yield match


def _is_outdated(key: str, value: str) -> bool:
    return key.lower() in ("state", "states") and value.lower() == OUTDATED


def _outdated(op: str, term: str, known: Callable[[Item], bool] | None, ask: str) -> _Test:
    if op not in ("=", "==", "!="):
        raise FilterError(f"{op!r} does not fit 'state' in {term!r}; use state=outdated or state!=outdated")
    if known is None:
        raise FilterError(f"what is outdated is known once the Hub was asked{f': {ask}' if ask else ''}")
    wanted, answer = op != "!=", known
    return lambda item, _: answer(item) is wanted


def _needle(match: re.Match[str]) -> str:
    word = match["quoted"] if match["quoted"] is not None else match["word"]
    if match["quoted"] is None and word[0] in "<>=!~":
        raise FilterError(f"{word!r} has nothing to compare before it; write for example size>10GB")
    return str(word)


def _term(key: str, op: str, value: str, term: str, ledger: Ledger | None) -> _Test:
    key = key.lower().replace("_", "-")
    key = _ALIASES.get(key, key)
    op = "=" if op == "==" else op
    if key not in KEYS:
        raise FilterError(f"unknown key {key!r} in {term!r}{_nearest(key, KEYS)}; known: {', '.join(KEYS)}")
    if not value:
        raise FilterError(f"{term!r} is not finished: what should {key} be compared with?")
    if key in TEXTS:
        return _text(key, op, value, term)
    if op == "~":
        raise FilterError(f"'~' (contains) does not fit {key!r}, a number; use one of {' '.join(_COMPARE)}")
    compare = _COMPARE[op]
    if key in AGES:
        seconds, now = _number(value, parse_age), time.time()
        when = _accessed if key == "accessed" else _modified

        def aged(item: Item, revision: Revision | None) -> bool:
            stamp = when(item, revision)
            return stamp is not None and compare(now - stamp, seconds)

        return aged
    bytes_, measure = _number(value, parse_size), _measure(key, ledger)
    return lambda item, revision: compare(measure(item, revision), bytes_)


def _number(value: str, parse: Callable[[str], float]) -> float:
    """A size or age; a plain number is bytes or seconds, as hf has it."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parse(value)
    except ValueError as e:
        raise FilterError(str(e)) from None


def _accessed(item: Item, revision: Revision | None) -> float | None:
    return item.last_used


def _modified(item: Item, revision: Revision | None) -> float | None:
    return item.last_modified if revision is None else revision.last_modified


def _measure(key: str, ledger: Ledger | None) -> Callable[[Item, Revision | None], float]:
    if key == "size":
        return lambda item, revision: item.size if revision is None else revision.size
    if key == "files":
        return lambda item, revision: item.file_count if revision is None else len(revision.names)
    if key == "allocated":
        return lambda item, _: item.allocated
    if ledger is None:
        raise FilterError(f"{key!r} is known once everything has been read")
    known = ledger
    if key == "own":
        return lambda item, _: known.own(item)
    if key == "shared":
        return lambda item, _: known.shared(item)
    return lambda item, _: known.frees([item])


def _text(key: str, op: str, value: str, term: str) -> _Test:
    if op not in ("=", "!=", "~"):
        raise FilterError(
            f"{op!r} does not fit {key!r} in {term!r}; use {key}={value}, {key}!={value} or {key}~{value}"
        )
    wanted = value.lower()
    if key == "state" and op != "~" and wanted not in _STATES:
        raise FilterError(f"unknown state {value!r}{_nearest(wanted, _STATES)}; known: {', '.join(_STATES)}")
    values = _VALUES[key]
    if op == "~":
        return lambda item, revision: any(wanted in v.lower() for v in values(item, revision))
    equal = op == "="

    def matches(v: str) -> bool:
        return wanted == v.lower() or (key == "quant" and wanted in _QUANT.split(v.lower()))

    return lambda item, revision: any(matches(v) for v in values(item, revision)) is equal


def _refs(item: Item, revision: Revision | None) -> Iterable[str]:
    return revision.refs if revision is not None else (ref for r in item.revisions for ref in r.refs)


_VALUES: dict[str, Callable[[Item, Revision | None], Iterable[str]]] = {
    "type": lambda i, _: (i.kind,),
    "refs": _refs,
    "state": lambda i, _: i.states,
    "store": lambda i, _: (i.store,),
    "quant": lambda i, _: (i.traits.quantization,),
    "format": lambda i, _: i.traits.formats,
    "family": lambda i, _: (i.traits.family,),
    "name": lambda i, _: (i.name,),
    "id": lambda i, _: (i.id,),
    "root": lambda i, _: (i.root,),
    "problem": lambda i, _: (p.code for p in i.problems),
    "loads": lambda i, _: i.traits.loads_with,
}


def _words(word: str) -> _Test:
    wanted = word.lower()

    def test(item: Item, revision: Revision | None) -> bool:
        t = item.traits
        # The store's prefix counts from its beginning only: "llama" is not meant to find all of "ollama:".
        if item.id.lower().startswith(wanted):
            return True
        hay = (item.name, item.id.partition(":")[2], t.quantization, t.family, t.parameters, *t.formats)
        return any(wanted in h.lower() for h in hay)

    return test


def _nearest(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), 1, 0.5)
    return f", did you mean {close[0]!r}?" if close else ""
