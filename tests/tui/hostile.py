"""Names that try everything on a terminal and on markup, as a hub cache, an Ollama store and loose folders."""

from __future__ import annotations

import os
from pathlib import Path

from cachetui.demo.builders import gguf_bytes, safetensors_bytes

PAYLOAD = "cHduZWQ"
"""What an OSC 52 in a name would put on the clipboard."""
NAMES = (
    f"\x1b]52;c;{PAYLOAD}\x07\x1b]0;pwned\x07\x1b[2J",
    "\x9b2J\x90q\x9cnew\nline\rback\x08",
    "[@click=app.quit]quit me[--]",
    "\u202egnp.live\u202c\u2066xzero\u200b\u200d\ufeffwidth\u00ad",
    "[--foo] [--] [bold red$primary %s {0} \\[x]",
    "[@click=screen.command('quit')]q[link=evil.example]x[--link]",
    os.fsdecode(b"bytes\xff\xfe\x80") + "wide\u4e2d\u6587\U0001f600" * 6 + "c" + "\u0301" * 40,
    "x" * 200,
)
"""Several traits in one name, but for markup: one that is broken would keep another from acting."""


def build(hub: Path, ollama: Path, models: Path) -> None:
    """Every name as a repo, a ref, a file, a tag and a folder."""
    weights = safetensors_bytes({"w": ("BF16", (10, 10))})
    for n, name in enumerate(NAMES):
        repo = hub / f"models--o--{name}"
        commit = f"{n:040x}"
        snapshot = repo / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir()
        (repo / "refs").mkdir()
        (repo / "refs" / name).write_text(commit)
        blob = repo / "blobs" / f"{n:064x}"
        blob.write_bytes(weights + bytes([n]))
        (snapshot / f"{name[:100]}.safetensors").symlink_to(f"../../blobs/{blob.name}")
        (snapshot / f"{name[:90]}.broken").symlink_to(f"../../blobs/{name[:90]}")
        (snapshot / "config.json").write_text('{"model_type": "\\u001b]52;c;' + PAYLOAD + '\\u0007[@click=app.quit]"}')
        tag = ollama / "manifests" / "registry.ollama.ai" / "library" / "m" / name
        tag.parent.mkdir(parents=True, exist_ok=True)
        tag.write_text('{"schemaVersion": 2, "layers": [], "config": {"digest": "' + "[/foo]" + '"}}')
        folder = models / name
        folder.mkdir(parents=True)
        (folder / f"{name[:100]}.gguf").write_bytes(
            gguf_bytes({"general.architecture": "a" + name[:20].encode("utf-8", "ignore").decode()})
        )


def offences(output: str) -> list[str]:
    """What of the names reached the terminal unescaped."""
    bad = [f"\x1b]52;c;{PAYLOAD}", "\x1b]0;pwned", *"\x9b\x90\u202e\u2066\u200b\ufeff\u00ad\x08"]
    return [b for b in bad if b in output]


def jobs() -> list[dict[str, object]]:
    """Every name as a title, a file under way, a reason, an advice, a result and a finding of a job's request."""
    made: list[dict[str, object]] = []
    for n, name in enumerate(NAMES):
        verdict = {"path": name, "code": name, "message": name, "offer": name, "name": name}
        row = {"target": name, "root": name, "outcome": "damaged", "findings": [verdict]}
        request: dict[str, object] = {
            "name": name,
            "targets": [],
            "result": {
                "results": [{"target": name, "done": bool(n % 2), "message": name}],
                "messages": [name],
                "verdicts": [row],
            },
        }
        if n % 3 == 0:
            request["fail"] = [name, name]
        made.append(request)
    return made
