"""The house stands: the core is headless, and what the README and CI say is what the project has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
HEAVY = ("textual", "rich", "torch", "transformers", "bitsandbytes", "huggingface_hub")


@pytest.mark.parametrize(
    "module", ["cachetui.model", "cachetui.scan", "cachetui.plans.executor", "cachetui.plans.recovery"]
)
def test_the_core_imports_no_user_interface_and_no_torch(module: str) -> None:
    code = f"import sys, {module}; from cachetui.store import all_stores; all_stores(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & set(HEAVY)


def test_ci_runs_the_readme_command() -> None:
    assert "<!-- test -->" in (TOP / "README.md").read_text()
    assert "README.md" in (TOP / ".ci" / "run").read_text()


def test_only_plans_remove_or_move() -> None:
    """Of the calls of fs.py, those that remove or move what the operation did not itself create are for plans/."""
    # Files of our own; a probe in a folder it made; what a library wrote for it a moment ago.
    allowed = {"fs.py", "ownfile.py", "config_edit.py", "drives.py", "writing.py", "quantizing.py"}
    allowed |= {"gguf_quantizing.py", "mlx_quantizing.py"}
    offenders = []
    for file in (TOP / "cachetui").rglob("*.py"):
        inside = file.relative_to(TOP / "cachetui")
        if inside.parts[0] in ("plans", "demo") or inside.name in allowed:
            continue
        text = file.read_text()
        calls = (
            ".unlink(",
            ".rmdir(",
            "rmtree(",
            "os.rename(",
            "os.replace(",
            "os.remove(",
            ".exchange(",
            "shutil.move(",
        )
        offenders += [f"{inside}: {call}" for call in calls if call in text]
    assert offenders == []
