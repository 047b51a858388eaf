"""cachetui estimate: what a model needs, against this machine or a card; and the disk a project needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cachetui import units
from cachetui.cli import common
from cachetui.cli.common import Failed, Session
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.memory.model import Ask, Device, Estimate
    from cachetui.memory.planner import DiskPlan
    from cachetui.memory.sources import Facts

_PATIENCE = 10.0
"""Seconds without a byte after which a Hub is said not to answer: a person waits."""


@common.verb()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--model", "models", multiple=True, metavar="TARGET", help="A TARGET too; short names work: qwen3, phi2.")
@click.option("--all", "every", is_flag=True, help="What can I run? All models on disk and in the catalogue.")
@click.option(
    "--use", metavar="USE", default="", help="With --all: learning, production, high-quality, inference-only."
)
@click.option("--context", type=click.IntRange(1), help="Tokens of text (default: 4096, or the model's own limit).")
@click.option("--images", type=click.IntRange(0), default=0, help="Pictures of 1024 x 1024 beside the text.")
@click.option("--gpu", metavar="NAME", help='Against this card instead of this machine: "RTX 2080".')
@click.option("--vram", metavar="SIZE", help="Against a card with so much memory: 8GB.")
@click.option("--rank", type=click.IntRange(1, 4096), default=16, show_default=True, help="Of LoRA adapters.")
@click.option(
    "--modules", metavar="NAMES", default="", help="What gets adapters: q_proj,v_proj or `attention`; default all."
)
@click.option(
    "--optimizer", type=click.Choice(["32", "8"]), default="32", show_default=True, help="Bits of AdamW's moments."
)
@click.option("--quantize-vision", is_flag=True, help="int8 and nf4 with the vision tower quantized as well.")
@click.option("--adapters", type=click.IntRange(0), default=0, help="Planner: so many LoRA adapters.")
@click.option("--checkpoints", type=click.IntRange(0), default=0, help="Planner: so many checkpoints.")
@click.option("--datasets", metavar="SIZE", help="Planner: room for datasets, or `some` where the size is unknown.")
@common.root_option
@common.where_options
@common.binary_option
@common.json_option
def estimate(
    targets: tuple[str, ...],
    models: tuple[str, ...],
    every: bool,
    use: str,
    context: int | None,
    images: int,
    gpu: str | None,
    vram: str | None,
    rank: int,
    modules: str,
    optimizer: str,
    quantize_vision: bool,
    adapters: int,
    checkpoints: int,
    datasets: str | None,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    as_json: bool,
) -> None:
    """What a model needs in memory, and whether it goes in.

    Read from headers and config alone, no weights. A TARGET is on disk, or a name of the catalogue, or a repo: the
    Hub is then asked for its config and headers. Several, or --adapters, --checkpoints, --datasets: the disk they
    need together.

    \b
    Examples:
      cachetui estimate Qwen/Qwen3-VL-8B-Instruct --gpu "RTX 2080"
      cachetui estimate qwen3 --context 32768 --images 4 --vram 24GB
      cachetui estimate --all --gpu "RTX 2080"
      cachetui estimate tinyllama phi2 --adapters 2 --checkpoints 3 --datasets 1GB
    """
    from cachetui.cli import estimate_show as show
    from cachetui.memory.model import Ask

    wanted = (*targets, *models)
    if not wanted and not every:
        raise click.UsageError("name a TARGET, or --all for everything")
    wanted_use = _use(use)
    names = tuple(n.strip() for n in modules.split(",") if n.strip())
    ask = Ask(context or 0, images, (1024, 1024), rank, names, int(optimizer), skip_vision=not quantize_vision)
    devices = _devices(gpu, vram)
    size = _datasets(datasets)
    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    only = common.real_root(session, root)
    if every:
        from cachetui.cli.estimate_all import everything

        everything(_all(session, ask), devices, wanted_use, binary=session.binary, as_json=as_json)
        return
    planning = len(wanted) > 1 or adapters or checkpoints or size is not None
    known = [fact for text in wanted for fact in (_one if planning else _facts)(session, text, only)]
    pairs = [(f, _estimate(f, ask)) for f in known]
    if planning:
        plan = _plan(pairs, session, adapters, checkpoints, size)
        show.planned(plan, [e for _, e in pairs], devices, binary=session.binary, as_json=as_json)
        return
    show.estimates([e for _, e in pairs], devices, binary=session.binary, as_json=as_json)


def _devices(gpu: str | None, vram: str | None) -> tuple[Device, ...]:
    from cachetui.memory.devices import UnknownCard, card_of, here, named_card

    if gpu and vram:
        raise click.UsageError("--gpu or --vram, not both")
    try:
        if gpu:
            return (named_card(gpu),)
        if vram:
            return (card_of(units.parse_size(vram)),)
    except UnknownCard as e:
        raise click.UsageError(f"--gpu: {safe(str(e))}") from None
    except ValueError as e:
        raise click.UsageError(f"--vram: {safe(str(e))}") from None
    return here()


def _use(text: str) -> str:
    from cachetui.memory.running import USES

    use = text.strip().lower().replace("-", " ")
    if use and use not in USES:
        raise click.UsageError(f"--use {safe(text)}: there are {', '.join(u.replace(' ', '-') for u in USES)}")
    return use


def _datasets(text: str | None) -> int | None:
    if text is None:
        return None
    if text.strip().lower() == "some":
        return 0
    try:
        return units.parse_size(text)
    except ValueError as e:
        raise click.UsageError(f"--datasets: {safe(str(e))}") from None


def _estimate(facts: Facts, ask: Ask) -> Estimate:
    from cachetui.memory import estimating

    return estimating.estimate(facts, ask)


def _facts(session: Session, text: str, root: str | None) -> list[Facts]:
    """Of what a TARGET names: on disk first, else in the catalogue. Several where a short name means several."""
    from cachetui.memory import catalogue
    from cachetui.memory.sources import NotAModel, facts_of

    if never := catalogue.never(text):
        raise Failed(safe(never))
    rows = catalogue.named(text)
    here = {i.id.lower() for i in session.scan.items if root in (None, i.root)}
    try:
        if rows:
            on_disk = [f"hf:{r.repo}".lower() in here for r in rows]
            return [
                facts_of(common.find(session, f"hf:{r.repo}", root).item) if there else catalogue.facts(r.repo)
                for r, there in zip(rows, on_disk, strict=True)
            ]
        if _is_unknown(session, text, root):
            return [_from_hub(text)]
        selection = common.find(session, text, root)
        return [facts_of(selection.item, selection.revision)]
    except NotAModel as e:
        raise Failed(f"{safe(text)}: {safe(str(e))}") from None
    except OSError as e:
        raise Failed(f"{safe(text)} cannot be read: {e.strerror}") from None


def _one(session: Session, text: str, root: str | None) -> list[Facts]:
    """Of one model, for a sum: of several that a short name means, the one that is on disk. Raises Failed."""
    found = _facts(session, text, root)
    here = [f for f in found if f.disk >= 0]
    if len(found) == 1 or len(here) == 1:
        return here or found
    rows = "\n".join(f"  {safe(f.name)}" for f in found)
    raise Failed(f"{safe(text)} stands for several models; write one of\n{rows}")


def _is_unknown(session: Session, text: str, root: str | None) -> bool:
    """Whether it is neither here nor like something that is here, and could be a repo's name."""
    from cachetui.targets import TargetError, TargetNotFound, resolve

    if "/" not in text or text.startswith(("/", ".", "~")):
        return False
    try:
        resolve(session.scan, text, root, session.where.cwd)
    except TargetNotFound:
        return root is None
    except TargetError:
        return False
    return False


def _from_hub(text: str) -> Facts:
    """Its config and headers, asked of the Hub. Raises NotAModel, Failed."""
    from cachetui.download import metadata
    from cachetui.download.client import Client
    from cachetui.download.errors import PullError

    try:
        return metadata.ask(Client(_PATIENCE, tries=1), text)
    except PullError as e:
        advice = f"; {safe(e.advice)}" if e.advice else ""
        raise Failed(
            f"{safe(text)} is neither on this machine nor in the catalogue, and the Hub does not tell:"
            f" {safe(str(e))}{advice}"
        ) from None


def _all(session: Session, ask: Ask) -> list[Estimate]:
    """Every model on disk that an estimate can be made of, then the rows of the catalogue that are not there."""
    from cachetui.memory import catalogue
    from cachetui.memory.sources import NotAModel, facts_of

    found: list[Estimate] = []
    names: set[str] = set()
    for item in session.scan.items:
        if not item.traits.formats:
            continue
        try:
            found.append(_estimate(facts_of(item, thorough=False), ask))
            names.add(item.name.lower())
        except (NotAModel, OSError):
            continue
    found += [_estimate(catalogue.facts(r.repo), ask) for r in catalogue.ROWS if r.repo.lower() not in names]
    return found


def _plan(
    pairs: list[tuple[Facts, Estimate]], session: Session, adapters: int, checkpoints: int, size: int | None
) -> DiskPlan:
    from cachetui.cli.data import disk_of
    from cachetui.memory import planner

    models = []
    for facts, _ in pairs:
        here = facts.disk >= 0
        note = "on disk" if here else f"to download, {facts.quantization}"
        models.append((facts.name, facts.disk if here else facts.download, here, note))
    where = next((r.path for r in session.roots if r.store == "hf"), os.path.expanduser("~"))
    disk = disk_of(where)
    return planner.plan(models, adapters=adapters, checkpoints=checkpoints, datasets=size, free=disk[1] if disk else -1)
