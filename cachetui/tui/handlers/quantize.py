"""Quantizing: the ways with what they take, then a job; the entry shows up in the tree."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import jobs, marks, operation, transfer, view

if TYPE_CHECKING:
    from cachetui.quantized_entries.planning import QuantPlan
    from cachetui.tui.screens.main import MainScreen

_WAYS = ((4, False), (4, True), (8, False))
"""(bits, double quantization)."""
_UNABLE = {"not-installed", "unsupported", "remote-code"}
"""Why a format is not offered."""


def ask(main: MainScreen) -> None:
    """Look what each way takes, then ask which."""
    if not operation.is_free(main):
        return
    chosen = marks.selected(main)
    if len(chosen) != 1:
        told = "One model at a time." if chosen else "Select a model to quantize."
        main.tell(told, severity="warning")
        return
    main.running = ("counting what it takes", None)
    view.show_state(main)
    background.start(
        main, partial(_plans, main, chosen[0]), partial(_show, main), partial(_failed, main, chosen[0]), "quantize"
    )


def _plans(main: MainScreen, selection: Selection) -> list[QuantPlan]:
    """One plan a way, other formats only where they can be made here. Raises NotRunnable, NotHere, OSError."""
    from cachetui.quantized_entries.planning import prepare
    from cachetui.quantized_entries.ways import GGUF, MLX, Way
    from cachetui.runnable import Options, runnable_of

    where = main.cachetui.where
    runnables = [runnable_of(selection, Options(bits=bits, double_quant=double), where) for bits, double in _WAYS]
    plans = [prepare(where, selection, runnable) for runnable in runnables]
    plain = runnable_of(selection, Options(), where)
    formats = (GGUF,) if plain.images else (MLX, GGUF)  # mlx_lm would leave out the part that sees
    more = [prepare(where, selection, plain, way=Way(name)) for name in formats]
    return [*plans, *(p for p in more if not {r.code for r in p.refused} & _UNABLE)]


def _failed(main: MainScreen, selection: Selection, error: Exception) -> None:
    transfer.done_planning(main)
    advice = getattr(error, "advice", "")
    more = f"\n{advice}" if advice else ""
    main.tell(f"{error}{more}", title=f"{selection.item.name} cannot be quantized", severity="warning")


def _show(main: MainScreen, plans: list[QuantPlan]) -> None:
    from cachetui.tui.screens.quantize import QuantizeScreen

    transfer.done_planning(main)

    def answer(plan: QuantPlan | None) -> None:
        if plan is not None:
            from cachetui.jobs import requests

            jobs.start(main, requests.quantize(plan.job()))
            marks.clear(main)

    main.app.push_screen(QuantizeScreen(plans, main.cachetui), answer)
