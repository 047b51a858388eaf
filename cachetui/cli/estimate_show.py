"""Estimates, for people and as JSON. Every verdict is a word; a colour only repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cachetui import units
from cachetui.memory.devices import first_that_fits, fit_of, verdicts
from cachetui.memory.model import BEST_FIRST, NF4_DOUBLE, Device, Estimate, Fit, Line, Mode
from cachetui.memory.planner import DiskPlan

if TYPE_CHECKING:
    from cachetui.memory.running import Way

_COLOURS = {Fit.FITS: "green", Fit.TIGHT: "yellow", Fit.NO: "red"}


def estimates(found: Sequence[Estimate], devices: Sequence[Device], *, binary: bool, as_json: bool) -> None:
    """One model in full, or each of several."""
    if as_json:
        from cachetui.cli.data import emit

        emit({"estimates": [data(e, devices) for e in found], "devices": [device_data(d) for d in devices]})
        return
    for n, one in enumerate(found):
        if n:
            _out()
        _print(one, devices, binary)


def _out(line: str = "") -> None:
    from cachetui.cli.table import out

    out(line)


def _word(fit: Fit) -> str:
    from cachetui.cli.table import style

    return style(str(fit), fg=_COLOURS[fit])


def count(number: int) -> str:
    """Parameters for people: `8.77 B`."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number) if number else "unknown"


def _size(line: Line, binary: bool) -> str:
    return ("" if line.exact else "about ") + units.size(line.bytes, binary=binary)


def _print(e: Estimate, devices: Sequence[Device], binary: bool) -> None:
    from cachetui.cli.table import fields, style
    from cachetui.text import safe

    _out(style(safe(e.target), bold=True))
    kinds = ", ".join(f"{count(n)} {dtype}" for dtype, n in e.by_dtype[:4])
    disk = _size(e.disk, binary) if e.disk.exact else e.disk.note
    kv = units.size(e.cache.per_token * 2, binary=binary) if e.cache else "none"
    rows = [
        ("family", e.family), ("parameters", count(e.parameters) + (f" ({kinds})" if kinds else "")),
        ("stored as", e.quantization), ("download", f"{_size(e.download, binary)}, {e.download.note}"),
        ("on disk", disk), ("context", f"{e.context} tokens of {e.context_limit or 'unknown'}"),
        ("a token keeps", f"{kv}{' in 16 bit' if e.cache else ''}{'' if e.kv_exact or not e.cache else ', roughly'}"),
        ("others make", ", ".join(f"{v.name} about {units.size(v.weights, binary=binary)}" for v in e.variants)
         + (" to download (computed)" if e.variants else "")), ("numbers from", e.source),
    ]  # fmt: skip
    fields([(label, value) for label, value in rows if value])
    for note in e.notes:
        _out(f"  {safe(note)}")
    for device in devices:
        _out()
        note = "" if device.kind == "card" else f" {device.note}"
        of = f" of {units.size(device.total, binary=binary)}" if device.usable != device.total else ""
        room = f"{units.size(device.usable, binary=binary)}{of}{note}"
        _out(style(safe(f"on {device.name}" if room in device.name else f"on {device.name}: {room}"), bold=True))
        _modes(e, device, binary)
        _out(_advice(e, device, binary))
    _lines(e, binary)


def _modes(e: Estimate, device: Device, binary: bool) -> None:
    from cachetui.cli.table import Column, table

    found = {v.mode: v for v in verdicts(e, device)}
    rows = []
    for mode in (*e.modes, e.training):
        verdict = found.get(mode.name)
        if verdict is None:
            continue
        room = "-" if verdict.context < 0 or mode is e.training else str(verdict.context)
        kv = units.size(mode.kv, binary=binary) if mode.kv else "-"
        sizes = [units.size(mode.weights, binary=binary), kv, units.size(mode.total, binary=binary)]
        rows.append([mode.name, *sizes, str(verdict.fit), room])
    right = [Column(title, right=True) for title in ("WEIGHTS", "KV CACHE", "TOTAL")]
    table([Column("MODE"), *right, Column("VERDICT"), Column("LARGEST CONTEXT", right=True)], rows)


def _advice(e: Estimate, device: Device, binary: bool) -> str:
    best = first_that_fits(e, device)
    shorter = max(verdicts(e, device), key=lambda v: v.context if v.mode in BEST_FIRST else -1)
    if best is None and shorter.context > 0:
        return f"Does not fit with so long a context: {shorter.mode} goes in with at most {shorter.context} tokens."
    if best is None:
        ways = (w.name + (f" ({units.size(w.need, binary=binary)})" if w.need else "") for w in _ways(e, device))
        return f"Does not go in. What still works: {', '.join(ways)}, or a smaller model."
    fit = fit_of(best.total, device)
    return f"First mode that fits: {best.name}, {units.size(best.total, binary=binary)} ({_word(fit)})."


def _ways(e: Estimate, device: Device) -> tuple[Way, ...]:
    from cachetui.memory.devices import ram
    from cachetui.memory.running import run_of

    return run_of(e, device, ram()).instead


def _lines(e: Estimate, binary: bool) -> None:
    """What the totals are made of, exact parts and rough ones told apart."""
    from cachetui.cli.table import Column, table

    rows = []
    for mode in (e.modes[0], *(m for m in e.modes[1:] if m.name == NF4_DOUBLE), e.training):
        if mode.reason:
            rows.append([mode.name, "", "", "", mode.reason])
        for n, line in enumerate(mode.lines):
            kind = "exact" if line.exact else "estimated"
            rows.append(
                [mode.name if n == 0 else "", line.name, units.size(line.bytes, binary=binary), kind, line.note]
            )
    _out()
    heads = [Column("MADE OF"), Column(""), Column("SIZE", right=True), Column("")]
    table([*heads, Column("", flex=True, spare=True)], rows)


def planned(
    plan: DiskPlan, found: Sequence[Estimate], devices: Sequence[Device], *, binary: bool, as_json: bool
) -> None:
    """The planner's sum, line by line, and which of the models fit."""
    from cachetui.cli.table import Column, table

    if as_json:
        from cachetui.cli.data import emit, plain

        lines = [
            {"name": plain(x.name), "low": x.low, "high": x.high, "note": plain(x.note), "on_disk": x.here}
            for x in plan.lines
        ]
        sums = {"low": plan.total_low, "high": plan.total_high, "more_low": plan.more_low, "more_high": plan.more_high}
        total = {**sums, "recommended_free": plan.recommended, "free": None if plan.free < 0 else plan.free}
        devices_ = [device_data(d) for d in devices]
        emit({"lines": lines, **total, "estimates": [data(e, devices) for e in found], "devices": devices_})
        return

    def span(low: int, high: int) -> str:
        both = units.size(low, binary=binary), units.size(high, binary=binary)
        return both[0] if low == high else f"{both[0]} to {both[1]}"

    rows = [[x.name, span(x.low, x.high), x.note] for x in plan.lines]
    rows.append(["together", span(plan.total_low, plan.total_high), ""])
    rows.append(["still to come", span(plan.more_low, plan.more_high), ""])
    table([Column("DISK"), Column("SIZE", right=True), Column("", flex=True)], rows)
    free = "unknown" if plan.free < 0 else units.size(plan.free, binary=binary)
    enough = "" if plan.free < 0 else ": enough" if plan.free >= plan.recommended else ": not enough"
    _out(f"Recommended free space: {units.size(plan.recommended, binary=binary)}; this disk has {free}{enough}.")
    for device in devices:
        _out()
        for e in found:
            _out(f"{device.name}: {_short(e, device, binary)}")


def _short(e: Estimate, device: Device, binary: bool) -> str:
    from cachetui.text import safe

    return f"{safe(e.name)}: {_advice(e, device, binary)}"


def device_data(d: Device) -> dict[str, Any]:
    """A device for JSON."""
    from cachetui.cli.data import plain

    return {"name": plain(d.name), "kind": d.kind, "total": d.total, "usable": d.usable, "note": d.note}


def _mode(mode: Mode) -> dict[str, Any]:
    lines = [_line(line) for line in mode.lines]
    return {"mode": mode.name, "total": mode.total, "exact": mode.exact, "lines": lines, "reason": mode.reason or None}


def _line(line: Line) -> dict[str, Any]:
    return {"name": line.name, "bytes": line.bytes, "exact": line.exact, "note": line.note}


def data(e: Estimate, devices: Sequence[Device]) -> dict[str, Any]:
    """One estimate for JSON."""
    from cachetui.cli.data import plain

    fits = []
    for device in devices:
        best = first_that_fits(e, device)
        found = [
            {"mode": v.mode, "need": v.need, "fit": str(v.fit), "largest_context": None if v.context < 0 else v.context}
            for v in verdicts(e, device)
        ]
        fits.append({"device": plain(device.name), "modes": found, "first_that_fits": best.name if best else None})
    return {
        "target": plain(e.target), "name": plain(e.name), "family": plain(e.family),
        "quantization": plain(e.quantization), "parameters": e.parameters or None,
        "by_dtype": {plain(dtype): n for dtype, n in e.by_dtype},
        "download": _line(e.download), "disk": _line(e.disk) if e.disk.exact else None,
        "context": e.context, "context_limit": e.context_limit or None,
        "kv_per_token": e.cache.per_token * 2 if e.cache else None, "kv_exact": e.kv_exact,
        "modes": [_mode(m) for m in e.modes], "training": _mode(e.training), "fits": fits,
        "variants": [_mode(m) for m in e.variants],
        "notes": [plain(n) for n in e.notes], "source": plain(e.source) or None,
    }  # fmt: skip
