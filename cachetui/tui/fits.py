"""Whether models go in: what they are compared with, and the estimates made so far.

The main screen holds one from its start: what estimates are made with is imported when the first is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetui.config import Config
from cachetui.model import OFFLINE, Item

if TYPE_CHECKING:
    from cachetui.memory.model import Device, Estimate

Key = tuple[str, str]
_MOST_CONTEXT = 1 << 24


@dataclass(frozen=True, slots=True)
class Against:
    """What models are compared with."""

    card: str = ""
    """A card's name or its memory; empty for this machine."""
    context: int = 0
    """Tokens; 0: 4,096, or less where a model was made for less."""


def against_of(config: Config) -> tuple[Against, str]:
    """(what the configuration says, why a part of it cannot be used)."""
    context = min(int(config.context or 0), _MOST_CONTEXT)
    if config.card.strip():
        from cachetui.memory import devices

        try:
            devices.card(config.card)
        except devices.UnknownCard as e:
            return Against("", context), f"config.toml, card: {e}"
    return Against(config.card.strip(), context), ""


def context_of(text: str) -> int:
    """Tokens as a person types them (`8192`, `8,192`, `8k`); 0 for nothing. Raises ValueError."""
    plain = text.strip().lower().replace(",", "").replace("_", "").replace(" ", "")
    if not plain:
        return 0
    number = int(plain[:-1]) * 1024 if plain.endswith("k") else int(plain)
    if not 0 < number <= _MOST_CONTEXT:
        raise ValueError(text)
    return number


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one item: an estimate, or why there is none."""

    item: Item
    context: int
    estimate: Estimate | None
    reason: str = ""


def examine(item: Item, context: int) -> Known:
    """Read headers and config of an item. Never raises; reads files: for a thread."""
    from cachetui.memory import Ask, NotAModel, estimate, facts_of

    try:
        return Known(item, context, estimate(facts_of(item, thorough=False), Ask(context)))
    except NotAModel as e:
        return Known(item, context, None, str(e))
    except OSError as e:
        return Known(item, context, None, e.strerror or "it cannot be read")


@dataclass
class Fits:
    """Estimates of items, kept as long as an item and the context stay the same."""

    against: Against = field(default_factory=Against)
    devices: tuple[Device, ...] = ()
    """What `against` means; empty until it was looked up, which a thread does."""
    ram: int = 0
    """Bytes of memory of this machine."""
    asked: Key | None = None
    """The item that a thread reads now."""
    looking: Against | None = None
    """What a thread looks up the devices of, or has looked up last."""
    _known: dict[Key, Known] = field(default_factory=dict)

    def known(self, item: Item) -> Known | None:
        """What is known of an item as it is now."""
        found = self._known.get(item.key)
        return found if found is not None and found.item is item and found.context == self.against.context else None

    def keep(self, found: Known) -> None:
        """Remember it."""
        self._known[found.item.key] = found

    def turn_to(self, against: Against) -> None:
        """Compare with something else."""
        self.against, self.devices, self.looking = against, (), None


def look_up(against: Against) -> tuple[tuple[Device, ...], int]:
    """(the devices that are meant, bytes of this machine's memory). Asks drivers: for a thread."""
    from cachetui.memory import devices

    return devices.chosen(against.card), devices.ram()


def is_model(item: Item) -> bool:
    """Whether an estimate makes sense: it is a model, and its files are where they can be read."""
    return item.kind == "model" and bool(item.traits.formats) and OFFLINE not in item.states


def gather(items: Sequence[Item], known: Sequence[Known], context: int) -> tuple[Known, ...]:
    """What is known of every model here; `known` is used again. Reads files: for a thread."""
    there = {k.item.key: k for k in known}
    models = {i.id: i for i in reversed(items) if is_model(i)}  # the same in several places is one model
    return tuple(there[i.key] if i.key in there else examine(i, context) for i in reversed(models.values()))


def elsewhere(here: Sequence[Estimate], context: int) -> tuple[Estimate, ...]:
    """The rows of the catalogue that are not among these."""
    from cachetui.memory import Ask, catalogue, estimate

    names = {e.name.lower() for e in here}
    rows = (r for r in catalogue.ROWS if r.repo.lower() not in names)
    return tuple(estimate(catalogue.facts(r.repo), Ask(context)) for r in rows)


def cards(words: str) -> tuple[tuple[str, Device], ...]:
    """(what to keep, the card) for a list to choose from, those whose name holds the words; a size is a card too."""
    from cachetui.memory import devices

    found: list[tuple[str, Device]] = []
    wanted = words.strip()
    if wanted:
        try:
            given = devices.card(wanted)
            found.append((given.name if given.note == "named" else wanted, given))
        except devices.UnknownCard:
            pass
    plain = wanted.lower().replace(" ", "")
    for name in devices.CARDS:
        if plain in name.replace(" ", ""):
            card = devices.named_card(name)
            if all(card.name != d.name for _, d in found):
                found.append((card.name, card))
    return tuple(found)
