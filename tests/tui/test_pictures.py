"""What it looks like, compared with pictures that a person has looked at (`--snapshot-update` makes them anew).

How full the disk of this machine is, who owns the files and how many blocks its file system takes for a folder
are put beside: they differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from tui_world import NOW, select, settle, until

from cachetui import units
from cachetui.jobs.model import Job, JobState, Progress, Spec
from cachetui.ledger import Ledger
from cachetui.memory.model import Device
from cachetui.plans.model import Caution, Stay
from cachetui.store import Selection
from cachetui.transfer.model import Drive, Part, TransferItem, TransferPlan
from cachetui.tui import describe, feed
from cachetui.tui.app import CachetuiApp
from cachetui.tui.choices import Choice
from cachetui.tui.feed import Disk
from cachetui.tui.fits import Against
from cachetui.tui.handlers.fits import turn_to
from cachetui.tui.jobdesk import JobDesk
from cachetui.tui.screens.archive import ArchiveScreen
from cachetui.tui.screens.card import CardScreen
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.report import ReportScreen
from cachetui.tui.screens.runs import RunsScreen
from cachetui.tui.screens.transfer import TransferScreen
from cachetui.tui.screens.trash import TrashScreen

Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One disk, one owner, whole blocks of content only."""
    disk = Disk(1, "/", 2_000_000_000_000, 812_000_000_000, 640_000_000_000)
    monkeypatch.setattr(feed, "disks_of", lambda roots, allocated: (disk,))
    monkeypatch.setattr("cachetui.tui.handlers.scanning.disks_of", lambda roots, allocated: (disk,))
    monkeypatch.setattr(describe, "_owner", lambda uid, gid: "me:me")
    monkeypatch.setattr(Ledger, "frees", lambda self, items: sum(i.size for i in items))
    size = units.size
    monkeypatch.setattr(
        "cachetui.memory.devices.here", lambda: (Device("RAM", "ram", 64 * 10**9, 48 * 10**9, "free now"),)
    )
    monkeypatch.setattr("cachetui.memory.devices.ram", lambda: 64 * 10**9)
    monkeypatch.setattr(describe.Page, "size", lambda self, n: "…" if n is None else size(n // 10_000 * 10_000))


def _run(*steps: Any) -> Callable[[Pilot[None]], Any]:
    async def before(pilot: Pilot[None]) -> None:
        main = await settle(pilot)
        for step in steps:
            if isinstance(step, str):
                await pilot.press(step)
            else:
                await step(pilot, main)
        await settle(pilot)

    return before


def _to(name: str) -> Any:
    async def step(pilot: Pilot[None], main: Any) -> None:
        select(main, name)
        await pilot.pause()

    return step


def _open(screen: type) -> Any:
    async def step(pilot: Pilot[None], main: Any) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, screen))

    return step


def test_the_main_screen(app: CachetuiApp, snap_compare: Compare) -> None:
    steps = _run(_to("microsoft/phi-2"), "space", "k", "l", "j")
    assert snap_compare(app, terminal_size=(150, 42), run_before=steps)


def test_a_narrow_terminal(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(80, 24), run_before=_run("j", "j", "j"))


def test_an_ultrawide_terminal_without_colours(
    world: Any, monkeypatch: pytest.MonkeyPatch, snap_compare: Compare
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = CachetuiApp(world, clock=lambda: NOW)
    assert snap_compare(app, terminal_size=(220, 40), run_before=_run(_to("acme/half-copied")))


def test_the_trash(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 24), run_before=_run("T", _open(TrashScreen)))


def test_help(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 40), run_before=_run("question_mark"))


def test_a_plan_that_refuses(app: CachetuiApp, snap_compare: Compare) -> None:
    async def nothing_but_the_plan(pilot: Pilot[None], main: Any) -> None:
        from cachetui.plans.model import Caution, Plan, PlannedItem, Stay
        from cachetui.store import Selection

        items = {i.name: i for i in main.shelf.scan.items}
        busy = PlannedItem(
            Selection(items["openai/whisper-large-v3-turbo"]),
            "hf:openai/whisper-large-v3-turbo",
            stays=(Stay("blobs/ab/abcdef", 2_200_000, ("hf:acme/support-bot-base",)),),
            cautions=(Caution("in-use", "in use by python (4211, mapped)"),),
        )
        free = PlannedItem(Selection(items["microsoft/phi-2"]), "hf:microsoft/phi-2")
        pinned = PlannedItem(
            Selection(items["meta-llama/Llama-3.2-3B-Instruct"]),
            "hf:meta-llama/Llama-3.2-3B-Instruct",
            refused="pinned: unpin it, or delete it alone",
        )
        pilot.app.push_screen(PlanScreen(Plan("delete", (free, busy, pinned), ()), pilot.app))  # type: ignore[arg-type]

    assert snap_compare(app, terminal_size=(110, 34), run_before=_run(nothing_but_the_plan))


def _push(make: Callable[[CachetuiApp], Screen[Any]]) -> Any:
    async def step(pilot: Pilot[None], main: Any) -> None:
        assert isinstance(pilot.app, CachetuiApp)
        pilot.app.push_screen(make(pilot.app))
        await pilot.pause()

    return step


def _choices() -> tuple[Choice, ...]:
    return (
        Choice("/mnt/attic/models", "archive", "attic", 12, 980_000_000_000),
        Choice("/media/me/stick/cachetui-archive", "drive", "stick", None, 31_000_000_000),
        Choice("/mnt/big/models", "archive", "big", 3, 0, "not there now: plug its drive in"),
    )


def test_where_to_archive(app: CachetuiApp, snap_compare: Compare) -> None:
    steps = _run(_push(lambda a: ArchiveScreen("microsoft/phi-2", 5_600_000_000, _choices(), a)))
    assert snap_compare(app, terminal_size=(100, 28), run_before=steps)


def test_a_plan_for_an_archive(app: CachetuiApp, snap_compare: Compare) -> None:
    async def step(pilot: Pilot[None], main: Any) -> None:
        items = {i.name: i for i in main.shelf.scan.items}
        phi, tiny = items["microsoft/phi-2"], items["TinyLlama/TinyLlama-1.1B-Chat-v1.0"]
        drive = Drive("/mnt/attic/models", "/mnt/attic", "attic", "ext4", 10**12, True, True, True, False)
        parts = (Part("/hub/models--microsoft--phi-2", "hub/models--microsoft--phi-2", 5_600_000_000, 8),)
        stays = (Stay("blobs/ab/abcdef", 2_200_000, ("hf:acme/support-bot-base",)),)
        asks = (Caution("in-use", "in use by python (4211, mapped)"),)
        plan = TransferPlan(
            "archive",
            "/mnt/attic/models",
            (
                TransferItem(Selection(phi), phi.id, phi.root, parts[0].place, parts, frees=5_600_000_000),
                TransferItem(Selection(tiny), tiny.id, tiny.root, "hub/tiny", (), (), stays, asks),
                TransferItem(Selection(tiny), "hf:acme/half-copied", tiny.root, refused="it is archived already"),
            ),
            drive,
            notes=("the drive holds no links: real files will stand in snapshots",),
        )
        pilot.app.push_screen(TransferScreen(plan, pilot.app))  # type: ignore[arg-type]
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=_run(step))


class _Desk(JobDesk):
    """Jobs that stand still."""

    unfinished = (Spec("restore-1", "restore", "restore hf:a/left-behind", {}, (), True),)

    def jobs(self) -> tuple[Job, ...]:
        spec = Spec("archive-1", "archive", "archive hf:org/name to /mnt/attic/models")
        done = {"results": [{"target": "hf:a/b", "done": True, "freed": 5_600_000_000}]}
        part = Progress("copy", 9_800_000_000, 20_200_000_000, rate=118e6, eta=88.0, name="model-00002.safetensors")
        return (
            Job(spec, JobState.DONE, None, done, started=NOW - 90, ended=NOW - 30),
            Job(spec, JobState.FAILED, part, None, "the drive was unplugged", "plug it in", NOW - 90, NOW),
            Job(replace(spec, id="archive-3"), JobState.RUNNING, part, started=NOW - 75),
            Job(replace(spec, id="archive-4"), JobState.RUNNING, replace(part, stalled=42.0), started=NOW - 75),
            Job(replace(spec, id="archive-5", title="verify hf:org/name"), JobState.QUEUED),
        )


def _desk_jobs() -> tuple[Job, ...]:
    return tuple(replace(j, spec=replace(j.spec, id=f"archive-{n}")) for n, j in enumerate(_Desk(int).jobs()))


def test_the_jobs(app: CachetuiApp, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _desk_jobs()
    monkeypatch.setattr(_Desk, "jobs", lambda self: shown)
    app.desk = _Desk(app._jobs_moved)
    assert snap_compare(app, terminal_size=(110, 34), run_before=_run("J", "k", "k"))


def test_a_verify_report(app: CachetuiApp, snap_compare: Compare) -> None:
    finding = {
        "name": "model.safetensors",
        "path": "/hub/blobs/ab",
        "message": "sha256 differs",
        "offer": "pull it again",
    }
    said = [("intact", []), ("damaged", [finding]), ("cannot-tell", [finding | {"message": "no hash is known"}])]
    verdicts = [
        {"target": f"hf:org/{o}", "root": "/hub", "outcome": o, "findings": f, "read": 10**9, "remembered": 2 * 10**9}
        for o, f in said
    ]
    job = Job(Spec("verify-1", "verify", "verify 3"), JobState.DONE, None, {"verdicts": verdicts})
    assert snap_compare(app, terminal_size=(100, 26), run_before=_run(_push(lambda a: ReportScreen(job, a))))


def test_what_is_offline(app: CachetuiApp, snap_compare: Compare) -> None:
    steps = _run(_to("google/flan-t5-large"))
    assert snap_compare(app, terminal_size=(120, 34), run_before=steps)


def test_what_fits_a_card(app: CachetuiApp, snap_compare: Compare) -> None:
    async def on_a_card(pilot: Pilot[None], main: Any) -> None:
        turn_to(main, Against("RTX 2080", 0))
        await settle(pilot)

    steps = _run(on_a_card, _to("TinyLlama/TinyLlama-1.1B-Chat-v1.0"))
    assert snap_compare(app, terminal_size=(130, 40), run_before=steps)


def test_what_can_i_run(app: CachetuiApp, snap_compare: Compare) -> None:
    async def on_a_card(pilot: Pilot[None], main: Any) -> None:
        turn_to(main, Against("RTX 2080", 0))
        await settle(pilot)

    steps = _run(on_a_card, "f", _open(RunsScreen), _settled, "end", "k", "k", "k", "k", "k", "k", "k", "k", "k")
    assert snap_compare(app, terminal_size=(140, 40), run_before=steps)


def test_which_card(app: CachetuiApp, snap_compare: Compare) -> None:
    steps = _run("m", _open(CardScreen), _settled, "3", "0", "9")
    assert snap_compare(app, terminal_size=(80, 24), run_before=steps)


async def _settled(pilot: Pilot[None], main: Any) -> None:
    await settle(pilot)
