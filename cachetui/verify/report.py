"""Verdicts on their way from the worker to whoever shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from cachetui.verify.model import OUTCOMES, Finding, Verdict


def verdict_data(verdict: Verdict) -> dict[str, Any]:
    """As JSON: names keep their undecodable bytes."""
    return asdict(verdict)


def verdict_of(body: Mapping[str, Any]) -> Verdict:
    """The inverse of `verdict_data`. Raises KeyError or TypeError for what is none."""
    fields = dict(body)
    fields["findings"] = tuple(Finding(**f) for f in body["findings"])
    return Verdict(**fields)


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many of each outcome, worst first."""
    found = dict.fromkeys(OUTCOMES, 0)
    for verdict in verdicts:
        found[verdict.outcome] += 1
    return found
