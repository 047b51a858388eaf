"""cachetui quantize --self-test: does quantizing, keeping and loading work in the folder that is configured?"""

from __future__ import annotations

from typing import Any

import click

from cachetui.cli import common
from cachetui.text import safe


def run(quant_dir: str, how: tuple[bool, bool, bool]) -> int:
    """Run it in a worker and print a line for each check. `how`: dry_run, yes, as_json. The exit code."""
    from cachetui.cli import transfer
    from cachetui.jobs import requests
    from cachetui.quantized_entries.places import place

    dry_run, yes, as_json = how
    folder = place(common.to_where(), quant_dir).path
    if not as_json:
        click.echo(safe(f"A tiny model is quantized, kept, loaded, damaged and made again in {folder}."))
    if dry_run:
        if as_json:
            _emit(folder, None, dry_run=True)
        return 0
    if not common.must_agree("Go on? Nothing of it stays.", yes=yes, as_json=as_json):
        common.say("Nothing was made.")
        return 1
    ended = transfer.run(requests.self_test(folder), binary=False)
    checks: list[dict[str, Any]] = list((ended.result or {}).get("checks", ()))
    passed = bool(checks) and all(c["ok"] for c in checks)
    if as_json:
        _emit(folder, checks, dry_run=False, reason=ended.reason)
    else:
        for check in checks:
            note = f": {check['note']}" if check["note"] else ""
            click.echo(safe(f"{'PASS' if check['ok'] else 'FAIL'}  {check['name']}{note}"))
        if ended.reason:
            common.say(safe(f"Not done: {ended.reason}"))
            if ended.advice:
                common.say(safe(ended.advice[:1].upper() + ended.advice[1:] + "."))
    code = transfer.code_of(ended)
    return code if code else 0 if passed else 1


def _emit(folder: str, checks: list[dict[str, Any]] | None, *, dry_run: bool, reason: str = "") -> None:
    from cachetui.cli import data

    passed = None if checks is None else bool(checks) and all(c["ok"] for c in checks)
    data.emit(
        {
            "verb": "quantize self-test",
            "dry_run": dry_run,
            "folder": data.plain(folder),
            "passed": passed,
            "checks": checks,
            "reason": data.plain(reason) or None,
        }
    )
