"""What can I run? Every model against each device, for people and as JSON. Every verdict is a word."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cachetui import units
from cachetui.cli.estimate_show import count, data, device_data
from cachetui.memory import running
from cachetui.memory.devices import ram
from cachetui.memory.model import HALF, INT8, NF4, NF4_DOUBLE, STORED, TRAINING, Device, Estimate, Fit
from cachetui.memory.running import Run, SizeClass
from cachetui.memory.variants import GGUF

_COLUMNS = (STORED, HALF, INT8, NF4, NF4_DOUBLE, TRAINING)
_TITLES = ("STORED", "16-BIT", "INT8", "NF4", "NF4 DQ", "TRAIN")
_WORDS = {Fit.FITS: "fits", Fit.TIGHT: "tight", Fit.NO: "no"}


def everything(found: Sequence[Estimate], devices: Sequence[Device], use: str, *, binary: bool, as_json: bool) -> None:
    """A table for each device, smallest first; only what is good for `use`, where that is given."""
    memory = ram()
    by_device = [[r for r in running.what_runs(found, d, memory) if not use or use in r.uses] for d in devices]
    if as_json:
        from cachetui.cli.data import emit

        shown = {r.estimate.target: r.estimate for runs in by_device for r in runs}
        runs_of = [{r.estimate.target: r for r in runs} for runs in by_device]
        models = [
            data(e, devices) | {"runs": [_run(r) for by in runs_of if (r := by.get(target)) is not None]}
            for target, e in sorted(shown.items(), key=lambda pair: running.order(pair[1]))
        ]
        classes = [_class(c) for c in running.by_class()]
        emit({"devices": [device_data(d) for d in devices], "models": models, "classes": classes})
        return
    for n, (device, runs) in enumerate(zip(devices, by_device, strict=True)):
        if n:
            _out()
        _table(device, runs, use, binary)
    _legend(found, {w.name for runs in by_device for r in runs for w in r.instead if not w.need}, binary)
    _classes(binary)


def _out(line: str = "") -> None:
    from cachetui.cli.table import out

    out(line)


def _table(device: Device, runs: Sequence[Run], use: str, binary: bool) -> None:
    from cachetui.cli.table import Column, style, table
    from cachetui.text import safe

    of = f", good for {use}" if use else ""
    room = units.size(device.usable, binary=binary) + (f" {device.note}" if device.kind != "card" else "")
    told = "" if room in device.name else f": {room}"
    _out(style(safe(f"What runs on {device.name}{of}{told}"), bold=True))
    rows = []
    for r in runs:
        e = r.estimate
        here = "disk" if e.disk.exact else "catalogue"
        cells = [_cell(r, name, binary) for name in _COLUMNS]
        rows.append([e.target, here, count(e.parameters), *cells, taken(r, binary), ", ".join(r.uses) or "-"])
    spare = ("STORED", "NF4 DQ", "TRAIN", "INT8")
    modes = [Column(t, right=True, spare=t in spare) for t in _TITLES]
    heads = [Column("MODEL", flex=True), Column("WHERE", spare=True), Column("PARAMS", right=True, spare=True)]
    table([*heads, *modes, Column("TAKE"), Column("GOOD FOR", spare=True)], rows)


def _cell(r: Run, name: str, binary: bool) -> str:
    v = r.verdict(name)
    return "-" if v is None else f"{v.need / ((1 << 30) if binary else 10**9):.1f} {_WORDS[v.fit]:>5}"


def taken(r: Run, binary: bool) -> str:
    """What to load it as, or what still works instead, in a few words."""
    if r.take is not None:
        return f"{r.take.name}, short" if r.is_short else r.take.name
    way = r.instead[0]
    name = way.name.removesuffix(", slowly").replace(f"{GGUF} on", "GGUF on")
    return f"{name}, {units.size(way.need, binary=binary)}" if way.need else "a hosted API"


def _legend(found: Sequence[Estimate], hosted: Collection[str], binary: bool) -> None:
    longest = max((e.context for e in found), default=0)
    _out()
    _out(f"Sizes in {'GiB' if binary else 'GB'}. Context {longest:,} tokens, or the model's own limit; short: less.")
    _out("Good for:")
    for use, means in running.USES.items():
        _out(f"  {use}: {means}")
    if hosted:
        names = ", ".join(sorted(name.removeprefix(running.HOSTED) for name in hosted))
        _out(f"Where nothing goes in: what still works. Hosted APIs are named, never called: {names}.")


def _classes(binary: bool) -> None:
    from cachetui.cli.table import Column, table

    _out()
    rows = []
    for c in running.by_class():
        rows.append([c.name, c.repo, *(units.size(size, binary=binary) for _, size in c.modes)])
    names = [name.upper() for name, _ in running.by_class()[0].modes]
    table([Column("4 BITS"), Column("COMPUTED FROM", flex=True), *(Column(n, right=True) for n in names)], rows)
    _out("MoE: bitsandbytes leaves the experts in 16 bit; GGUF and GPTQ pack them.")


def _run(r: Run) -> dict[str, Any]:
    from cachetui.cli.data import plain

    ways = [
        {"name": w.name, "need": w.need or None, "download": w.download or None, "on_device": w.here} for w in r.instead
    ]
    return {
        "device": plain(r.device.name), "take": r.take.name if r.take else None, "fit": str(r.fit),
        "largest_context": r.context if r.take and r.context >= 0 else None, "uses": list(r.uses), "instead": ways,
    }  # fmt: skip


def _class(c: SizeClass) -> dict[str, Any]:
    return {"class": c.name, "repo": c.repo, "parameters": c.parameters, "weights": dict(c.modes)}
