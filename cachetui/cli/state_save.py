"""cachetui state save: read pictures and a system prompt once, keep what the model made of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cachetui import state_folders, state_saving, units
from cachetui.cli import common, transfer
from cachetui.cli.common import Failed, Session
from cachetui.cli.prompt import Way, must_mean_something, size_of
from cachetui.state_items import DEFAULT_SYSTEM
from cachetui.state_saving import Part, PlaceError
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.cli.progress import Bar
    from cachetui.runnable import Runnable
    from cachetui.states import Predicted

_INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Asked:
    """How pictures are read."""

    system: str
    max_pixels: int
    resize: tuple[int, int] | None
    seed: int

    def request(self) -> dict[str, Any]:
        """For a worker."""
        return {"system": self.system, "max_pixels": self.max_pixels, "seed": self.seed,
                "resize": list(self.resize) if self.resize else None}  # fmt: skip


@dataclass
class Row:
    """One state: what it will be, and what became of it."""

    part: Part
    predicted: Predicted | None = None
    reason: str = ""
    """Why it cannot be, or was not, saved."""
    advice: str = ""
    path: str = ""
    """Of the file, once it is there."""
    tokens: int = 0
    size: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What it is of."""
        return ", ".join(os.path.basename(i) for i in self.part.images) or "the system prompt"


@common.verb()
@click.argument("target", required=False)
@click.option("--model", metavar="TARGET", help="The same as TARGET.")
@click.option("--image", "images", multiple=True, metavar="FILE", help="A picture, or noise (repeatable).")
@click.option(
    "-o", "--output", metavar="FILE|DIR", default="",
    help=f"Where to: exactly this file, or into this folder. Default: {state_folders.VARIABLE}, else state_dir of "
    "config.toml, else a folder of cachetui's own.",
)  # fmt: skip
@click.option(
    "--system-prompt",
    "--system",
    "system_prompt",
    default=DEFAULT_SYSTEM,
    show_default=True,
    metavar="TEXT",
    help="Read first.",
)
@click.option("--together", is_flag=True, help="All pictures into one state, not one for each.")
@click.option("--max-pixels", type=click.IntRange(1), metavar="N", help="Lower pictures to N pixels, their shape kept.")
@click.option("--resize", metavar="WxH", callback=size_of, help="Make pictures exactly so large.")
@click.option("--seed", type=int, default=0, metavar="N", help="Of --image noise.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", default="auto", show_default=True, help="auto (as stored), float32, bfloat16, float16.")
@click.option("--bits", type=click.Choice(["4", "8"]), help="Quantize while loading.")
@click.option("--trust-remote-code", is_flag=True, help="Allow this model's own Python code to run.")
@click.option("--pull", is_flag=True, help="Download the model first where it is not on disk.")
@common.root_option
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def save(
    target: str | None,
    model: str | None,
    images: tuple[str, ...],
    output: str,
    system_prompt: str,
    together: bool,
    max_pixels: int | None,
    resize: tuple[int, int] | None,
    seed: int,
    device: str,
    dtype: str,
    bits: str | None,
    trust_remote_code: bool,
    pull: bool,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Save what a model has read of a picture, so that questions need not read it again.

    The default TARGET is Qwen/Qwen3-VL-2B-Instruct. Each picture becomes a state of its own, all in one run with one
    loaded model. What is written is safetensors whatever the file is called. Its size is told before.

    \b
    Examples:
      cachetui state save --image photo.jpg --output photo_cache.pt
      cachetui state save qwen3 --image a.jpg --image b.jpg --output caches/
      cachetui state save --image photo.jpg --max-pixels 200000 --dry-run
    """
    if target and model:
        raise click.UsageError("TARGET or --model, not both")
    if max_pixels and resize:
        raise click.UsageError("--max-pixels or --resize, not both")
    asked = Asked(system_prompt, max_pixels or 0, resize, seed)
    where = common.to_where(cache_dir, search)
    for image in images:
        if image != "noise" and not os.path.isfile(where.resolve(image)):
            raise Failed(safe(f"there is no picture {image}"))
    images = tuple(i if i == "noise" else where.resolve(i) for i in images)
    from cachetui.runnable import Options

    options = Options(device, dtype, int(bits or 0), trust_remote_code=trust_remote_code)
    must_mean_something(options)
    session = common.begin(where, dry_run=dry_run, binary=binary)
    way = Way(
        options, common.real_root(session, root), pull and not dry_run, yes, session.binary, as_json, "state save"
    )
    runnable = _model(session, target or model or "", way, with_pictures=bool(images))
    try:
        parts = state_saving.parts(where, images, output, together=together)
    except PlaceError as e:
        raise _failed(e) from None
    rows = _measured(session, runnable, parts, asked, images)
    if not as_json:
        _preview(session, runnable, rows, dry_run=dry_run)
    questions = _places(session, runnable, rows)
    if dry_run:
        return _end(session, runnable, rows, dry_run=True, as_json=as_json)
    for question in questions:
        if not common.must_agree(question, yes=yes, as_json=as_json):
            common.say("Nothing was saved.")
            return 1
    _must_fit(rows, session)
    interrupted = _run(session, runnable, rows, asked)
    code = _end(session, runnable, rows, dry_run=False, as_json=as_json)
    return transfer.INTERRUPTED if interrupted else code


def _model(session: Session, target: str, way: Way, *, with_pictures: bool) -> Runnable:
    """What a TARGET means, when it can save states of what it is to read. Raises Failed."""
    from cachetui.cli import prompt_find

    runnable = prompt_find.find(session, target, way)
    if not runnable.saves_states:
        raise Failed(f"{safe(runnable.name)} is run by {runnable.engine}: only models that transformers runs have "
                     "saved states")  # fmt: skip
    if with_pictures and not runnable.images and not _may_see(runnable.wanted.folder):
        raise Failed(f"{safe(runnable.name)} takes no pictures: --image needs a vision-language model")
    return runnable


def _may_see(folder: str) -> bool:
    """Whether a model of a kind that is not known has something that prepares pictures."""
    from cachetui.states.folder import PROCESSOR

    return any(os.path.exists(os.path.join(folder, name)) for name in PROCESSOR)


def _failed(error: PlaceError) -> Failed:
    return Failed(safe(str(error)) + (f"\n{safe(error.advice)}" if error.advice else ""))


def _measured(
    session: Session, runnable: Runnable, parts: Sequence[Part], asked: Asked, images: Sequence[str]
) -> list[Row]:
    """The rows with what each state will need; pictures that cannot be read say why."""
    told: dict[str, Any] = {}
    if images:
        from cachetui.jobs.model import JobState, Spec, new_id
        from cachetui.jobs.runner import run

        spec = Spec(new_id(), "measure", "measure pictures", {"pictures": list(images), **asked.request()})
        ended = run(spec, lambda p: None, threading.Event())
        if ended.state is not JobState.DONE or ended.result is None:
            raise Failed(safe(ended.reason) + (f"\n{safe(ended.advice)}" if ended.advice else ""))
        told = dict(zip(images, ended.result["pictures"], strict=True))
    wanted = runnable.wanted
    rows = []
    for part in parts:
        bad = next(((i, told[i]) for i in part.images if "reason" in told[i]), None)
        if bad is not None:
            rows.append(Row(part, None, f"{bad[0]}: {bad[1]['reason']}", bad[1]["advice"]))
            continue
        sizes = [(told[i]["size"][0], told[i]["size"][1]) for i in part.images]
        found = state_saving.expected(wanted.folder, sizes, asked.system, dtype=wanted.dtype, bits=wanted.bits)
        rows.append(Row(part, found))
    return rows


def _preview(session: Session, runnable: Runnable, rows: Sequence[Row], *, dry_run: bool) -> None:
    say = click.echo if dry_run else common.say
    say(safe(f"{runnable.name} reads:"))
    for row in rows:
        if row.predicted is None:
            say(safe(f"  {row.name}: {row.reason}"))
            continue
        size = units.size(row.predicted.bytes, binary=session.binary)
        about = f"about {row.predicted.tokens:,} tokens, {size}, " if row.predicted.bytes else ""
        say(safe(f"  {row.name}: {about}to {row.part.output}"))


def _places(session: Session, runnable: Runnable, rows: Sequence[Row]) -> list[str]:
    """What to ask before; rows whose place may not be written say why."""
    questions = []
    for row in rows:
        if row.reason:
            continue
        try:
            before = state_saving.must_be_writable(row.part, session.scan)
        except PlaceError as e:
            row.reason, row.advice = str(e), e.advice
            continue
        if question := state_saving.asks(before, row.part, runnable.wanted):
            questions.append(question)
        if row.part.output.lower().endswith(state_saving.PICKLES):
            common.say(safe(f"{row.part.output}: written at that path; its content is safetensors, no pickle"))
    return questions


def _must_fit(rows: Sequence[Row], session: Session) -> None:
    """Raises Failed where the disk has no room for all of them."""
    from cachetui.cli.data import disk_of
    from cachetui.download.places import nearest

    need: dict[int, tuple[str, int]] = {}
    for row in rows:
        if not row.reason and row.predicted is not None:
            folder = nearest(row.part.folder)
            dev = os.stat(folder).st_dev
            need[dev] = (folder, need.get(dev, ("", 0))[1] + row.predicted.bytes)
    for folder, size in need.values():
        disk = disk_of(folder)
        if disk is not None and size + state_saving.MARGIN > disk[1]:
            wants, has = (units.size(n, binary=session.binary) for n in (size, disk[1]))
            said = f"{folder}: they need {wants}, {has} are free"
            raise Failed(f"{safe(said)}\nfewer pixels (--max-pixels) make it less")


def _run(session: Session, runnable: Runnable, rows: Sequence[Row], asked: Asked) -> bool:
    """Load once, save one after another; True when it was interrupted. Raises Failed where the model does not load."""
    from cachetui.cli.progress import Bar
    from cachetui.jobs.model import JobState
    from cachetui.jobs.session import Session as Worker

    todo = [row for row in rows if not row.reason]
    if not todo:
        return False
    worker = Worker({"op": "load", "runnable": runnable.to_json()})
    try:
        with transfer.stoppable() as stop, Bar(session.binary) as bar:
            if not sys.stderr.isatty():
                common.say(safe(f"loading {runnable.name} ..."))
            ended = worker.load(bar.tell, stop)
            if ended.state is JobState.FAILED:
                raise Failed(safe(ended.reason) + (f"\n{safe(ended.advice)}" if ended.advice else ""))
            for row in todo:
                if stop.is_set():
                    row.reason = _INTERRUPTED
                else:
                    _save(worker, row, asked, bar, stop)
            return stop.is_set()
    finally:
        worker.close()


def _save(worker: Any, row: Row, asked: Asked, bar: Bar, stop: threading.Event) -> None:
    from cachetui.jobs.model import JobState

    begun = time.monotonic()
    try:
        state_saving.make_folder(row.part.folder)
    except OSError as e:
        row.reason = f"{row.part.folder} cannot be made: {e.strerror or e}"
        return
    request = {"op": "save-state", "images": list(row.part.images), "output": row.part.output, **asked.request()}
    ended = worker.ask(request, None, stop, on_progress=bar.tell)
    if ended.state is not JobState.DONE or ended.result is None:
        row.reason, row.advice = ended.reason or _INTERRUPTED, ended.advice
        return
    row.path, row.tokens, row.size = (ended.result[key] for key in ("path", "tokens", "bytes"))
    row.seconds = time.monotonic() - begun
    if trouble := str(ended.result.get("trouble") or ""):
        bar.log(trouble)
    bar.log(f"{row.path}: {row.tokens:,} tokens, {units.size(row.size)}, {row.seconds:.1f} s")


def _end(session: Session, runnable: Runnable, rows: Sequence[Row], *, dry_run: bool, as_json: bool) -> int:
    """Say what became of it; the exit code."""
    if as_json:
        from cachetui.cli import data

        data.emit({
            "verb": "state save", "dry_run": dry_run, "model": data.plain(runnable.target),
            "states": [_data(row) for row in rows],
        })  # fmt: skip
    else:
        if left := sum(row.reason == _INTERRUPTED for row in rows):
            common.say(f"{left} of {len(rows)} were not saved: interrupted")
        for row in rows:
            if row.reason and row.reason != _INTERRUPTED:
                common.say(
                    safe(f"not saved: {row.name}: {row.reason}") + (f"\n  {safe(row.advice)}" if row.advice else "")
                )
        done = [row.path for row in rows if row.path]
        if done:
            text = "TEXT" if len(done) > 1 else "What do you see?"
            click.echo(safe(f'ask it: cachetui prompt "{text}" --state {done[0]}'))
    return 1 if any(row.reason for row in rows) else 0


def _data(row: Row) -> dict[str, Any]:
    from cachetui.cli import data

    p = row.predicted
    return {
        "images": [data.plain(i) for i in row.part.images],
        **data.path_fields(row.path or row.part.output),
        "saved": bool(row.path),
        "predicted": {"tokens": p.tokens, "bytes": p.bytes} if p is not None else None,
        "tokens": row.tokens or None,
        "bytes": row.size or None,
        "seconds": round(row.seconds, 3) if row.path else None,
        "reason": data.plain(row.reason),
        "advice": data.plain(row.advice),
    }
