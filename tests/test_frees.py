"""What the plan says comes back is what the disk then has more: every item of the demo world, deleted for real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cachetui.config import Where, load
from cachetui.demo import build
from cachetui.ledger import Scan
from cachetui.model import PINNED
from cachetui.plans.executor import execute
from cachetui.plans.model import PERMANENT
from cachetui.plans.removal import prepare
from cachetui.scan import scan
from cachetui.store import Selection

ALL = frozenset(("in-use", "locked", "young", "unchecked", PERMANENT, "no-undo", "server"))

BOOKKEEPING = 8192
"""A `.refs` and a `.lock` file."""


def du(path: Path) -> int:
    return int(
        subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "world"
    build(folder, gb=10**5)
    return folder


@pytest.fixture
def world(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "world"
    shutil.copytree(pristine, folder, symlinks=True)
    home = folder / "home"
    for name, value in {
        "HOME": home,
        "HF_HOME": home / ".cache/huggingface",
        "OLLAMA_MODELS": home / ".ollama/models",
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local/share",
        "XDG_STATE_HOME": home / ".local/state",
    }.items():
        monkeypatch.setenv(name, str(value))
    config = home / ".config/cachetui/config.toml"
    config.write_text(f'search_roots = ["{home}/projects"]\n')
    return folder


def look() -> Scan:
    return scan(Where.current(config=load()))


def test_roots_add_up_to_du(world: Path) -> None:
    for root in look().roots:
        assert root.allocated + sum(du(Path(root.root.path) / n) for n in root.nested) == du(Path(root.root.path))


def test_each_item_frees_what_its_plan_says(world: Path) -> None:
    first = look()
    assert len(first.items) > 25
    for item in sorted(first.items, key=lambda i: i.id):
        if PINNED in item.states:
            continue
        now = look()
        before = {r.root.path: r.allocated for r in now.roots}
        mine = now.by_key[item.key]
        promised = now.ledger.frees([mine])
        plan = prepare(now, [Selection(mine)], permanent=True)
        # The plan also takes the bookkeeping beside a shared payload, which belongs to no item.
        assert promised <= plan.frees_when_emptied <= promised + BOOKKEEPING, item.id
        outcome = execute(plan, accept=ALL)
        assert outcome.ok, [r.message for r in outcome.results]
        after = look()
        assert item.key not in after.by_key
        assert outcome.freed == plan.frees_when_emptied, item.id
        gone = before[item.root] - {r.root.path: r.allocated for r in after.roots}.get(item.root, 0)
        # A folder's own blocks never shrink by what is taken out of it.
        assert gone == outcome.freed, item.id


def test_marked_together_free_what_they_share(world: Path) -> None:
    now = look()
    shared = [i for i in now.items if i.id in ("hf:TinyLlama/TinyLlama-1.1B-Chat-v1.0", "hf:acme/support-bot-base")]
    shared = [i for i in shared if i.root.endswith("huggingface/hub")]
    assert len(shared) == 2
    alone = sum(now.ledger.frees([i]) for i in shared)
    together = now.ledger.frees(shared)
    assert together > alone + 200_000
    plan = prepare(now, [Selection(i) for i in shared], permanent=True)
    assert together <= plan.frees_when_emptied <= together + BOOKKEEPING
    assert execute(plan, accept=ALL).freed == plan.frees_when_emptied
