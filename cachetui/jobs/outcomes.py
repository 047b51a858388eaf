"""An operation's outcome on its way from worker to parent."""

from __future__ import annotations

from dataclasses import asdict

from cachetui.jobs.model import Json
from cachetui.plans.model import Outcome, Result


def outcome_data(outcome: Outcome) -> Json:
    """As JSON: names keep their undecodable bytes."""
    return asdict(outcome)


def outcome_of(body: Json) -> Outcome:
    """The inverse of `outcome_data`. Raises KeyError or TypeError for what is none."""
    results = tuple(Result(**result) for result in body["results"])
    return Outcome(body["verb"], results, body["operation"], tuple(body["messages"]))
