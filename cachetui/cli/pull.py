"""cachetui pull: get a model, resumable and verified, and only what is needed of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import common, pull_variants
from cachetui.cli.common import Failed
from cachetui.cli.data import plain
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.config import Where
    from cachetui.download.ollama import OllamaPlan
    from cachetui.download.planning import PullPlan, Request
    from cachetui.jobs.model import Ended

_MOST_NAMED = 12
_ROLES = ("weights", "tokenizer", "config", "other")
_MOST_FILES = 40


@common.verb()
@click.argument("target", metavar="TARGET")
@click.option("--revision", metavar="REV", help="Branch, tag or commit; the same as TARGET@REV.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Only files that match, e.g. '*.json' (repeatable).")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No files that match (repeatable).")
@click.option("--quant", metavar="NAME", default="", help="This quantization of a GGUF repo, e.g. Q4_K_M.")
@click.option("--variants", is_flag=True, help="Only list GGUF, GPTQ, AWQ and MLX versions of it, with their sizes.")
@click.option("--all-formats", is_flag=True, help="Also the same weights in other formats (.bin, onnx, tf, flax ...).")
@click.option(
    "--cache-dir",
    "--model-cache-dir",
    "cache_dir",
    metavar="DIR",
    help="Into this folder: a hub cache as it is; else DIR/hub, as HF_HOME=DIR would.",
)
@click.option("--local-dir", metavar="DIR", help="The files themselves into this folder, without a cache.")
@click.option(
    "--engine",
    type=click.Choice(("own", "hub")),
    default="own",
    help="own: resumes and verifies as it comes. hub: huggingface_hub downloads (with Xet), verified after.",
)
@common.changing_options
@common.binary_option
@common.json_option
def pull(
    target: str,
    revision: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    quant: str,
    variants: bool,
    all_formats: bool,
    cache_dir: str | None,
    local_dir: str | None,
    engine: str,
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Get a model: resumable, verified, and only what you need of it.

    TARGET is hf:ORG/NAME[@REV][:FILE] or ollama:NAME[:TAG]. Shows first what comes, what is here already and whether
    it fits. Interrupted, the same command again goes on where it stopped.

    \b
    Examples:
      cachetui pull hf:Qwen/Qwen3-VL-2B-Instruct
      cachetui pull hf:Qwen/Qwen3-VL-2B-Instruct --variants
      cachetui pull hf:org/name-GGUF --quant Q4_K_M
      cachetui pull hf:org/name@v1.0 --include '*.safetensors' --include '*.json' --dry-run
      cachetui pull ollama:llama3.2:3b
    """
    where = common.to_where()
    if target.startswith("ollama:"):
        if include or exclude or quant or variants or cache_dir or local_dir or revision:
            raise click.UsageError("Ollama's server decides what it fetches and where to: give TARGET alone")
        return _ollama(where, target, (dry_run, yes, as_json), binary)
    target = _spelled_out(target)
    if variants:
        return pull_variants.show(where, target, binary=binary, as_json=as_json)
    if cache_dir and local_dir:
        raise click.UsageError("--cache-dir or --local-dir, not both")
    if revision:
        target = _with_revision(target, revision)
    from cachetui.download.planning import Request

    request = Request(target, include, exclude, quant, all_formats, cache_dir or "", local_dir or "", engine)
    plan = _plan(where, request)
    if any(r.code == "choose-quant" for r in plan.refused) and _may_ask(yes, as_json):
        plan = _plan(where, _choose(request, plan, binary))
    if not as_json:
        hits = () if yes else pull_variants.found(plan)
        for line in (*plan_lines(plan, binary), *pull_variants.lines(plan, hits, binary=binary)):
            click.echo(line)
    return _go(plan, (dry_run, yes, as_json), binary)


def _spelled_out(target: str) -> str:
    """The TARGET that a short name of the catalogue stands for. Raises Failed where those are several."""
    from cachetui.memory import catalogue

    if never := catalogue.never(target):
        raise Failed(safe(never))
    rows = catalogue.named(target) if not {"/", ":"} & set(target) else ()
    if len(rows) > 1:
        names = "\n".join(f"  cachetui pull hf:{r.repo}" for r in rows)
        raise Failed(f"{safe(target)} stands for several models; write one of\n{names}")
    return f"hf:{rows[0].repo}" if rows else target


def _with_revision(target: str, revision: str) -> str:
    base, colon, path = target.removeprefix("hf:").partition(":")
    if "@" in base:
        raise click.UsageError("--revision or TARGET@REV, not both")
    return f"hf:{base}@{revision}{colon}{path}"


def _may_ask(yes: bool, as_json: bool) -> bool:
    return not yes and not as_json and sys.stdin.isatty()


def _plan(where: Where, request: Request) -> PullPlan:
    from cachetui.cli.progress import Line, Reading
    from cachetui.download.client import Client
    from cachetui.download.client import where as host
    from cachetui.download.errors import USAGE, PullError
    from cachetui.download.planning import prepare
    from cachetui.download.spelling import parse_hub
    from cachetui.scan import find_roots, scan_roots

    try:
        parse_hub(request.target)
        line = Line()
        client = Client(told=line.log)
        roots, problems = find_roots(where)
        with Reading(len(roots)) as reading:
            scan = scan_roots(roots, roots, reading, problems)
        with line:
            line.now(f"asking {host(client.endpoint)} ...")
            return prepare(where, request, client, scan)
    except PullError as e:
        advice = f"\n{e.advice}" if e.advice else ""
        if e.code == USAGE:
            raise click.UsageError(safe(str(e)) + advice) from None
        raise Failed(safe(f"{request.target}: {e}") + (f"\n{safe(e.advice)}" if e.advice else "")) from None


def _choose(request: Request, plan: PullPlan, binary: bool) -> Request:
    """Ask which quantization."""
    from dataclasses import replace

    click.echo(safe(f"{plan.name.target} holds {len(plan.quants)} quantizations:"), err=True)
    for n, q in enumerate(plan.quants, 1):
        click.echo(safe(f"  {n:3}  {q.name:<12} {units.size(q.size, binary=binary):>10}"), err=True)
    number = click.prompt("Which one", type=click.IntRange(1, len(plan.quants)), err=True)
    return replace(request, quant=plan.quants[number - 1].name)


def plan_lines(plan: PullPlan, binary: bool) -> list[str]:
    """The plan for people."""

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    revision = "" if plan.name.revision == plan.commit else f" ({safe(plan.name.revision)})"
    lines = [f"{safe(plan.name.target)}@{plan.commit[:7]}{revision} into {safe(plan.into)}:"]
    for role in _ROLES:
        files = [f for f in plan.files if f.role == role]
        if files:
            lines.append(f"  {role:<10} {size(sum(f.size for f in files)):>10}   {_names(files)}")
    lines += _reused(plan)
    lines += [f"  ! {safe(f.path)} takes the place of {safe(f.replaces)}" for f in plan.files if f.replaces]
    if plan.left_out:
        reasons: dict[str, list[int]] = {}
        for _, count, why in plan.left_out:
            reasons.setdefault(why, []).append(count)
        lines.append("Left out (--all-formats or --include PATTERN takes it):")
        lines += [f"  {len(sizes)} files, {size(sum(sizes))}: {safe(why)}" for why, sizes in sorted(reasons.items())]
    resumed = sum(f.have for f in plan.files)
    parts = [f"To come: {size(plan.fetch)}"]
    parts += [f"{size(resumed)} came earlier"] if resumed else []
    parts += [f"{size(plan.here)} here already"] if plan.here else []
    parts += [f"{size(plan.copied)} copied on this machine"] if plan.copied else []
    lines.append(", ".join(parts) + f"; {size(plan.free)} free there.")
    lines += [safe(n[:1].upper() + n[1:]) + "." for n in plan.notes]
    for r in plan.refused:
        lines.append(f"Refused: {safe(r.message)}" + (f"\n  {safe(r.advice)}" if r.advice else ""))
    return lines


def _reused(plan: PullPlan) -> list[str]:
    """What is not fetched, for it lies on this machine: the first few files by name."""
    lines = []
    for f in plan.files:
        if f.origin is not None:
            what = f.origin.path if f.action != "shared" else "the shared store of this cache"
            how = "copied" if f.action == "copy" else "linked"
            lines.append(f"  {safe(f.path)}: {how} from {safe(what)} {safe(f.origin.holder)}".rstrip())
    more = [f"  and {len(lines) - _MOST_NAMED} more from this machine"] if len(lines) > _MOST_NAMED else []
    return lines[:_MOST_NAMED] + more


def _names(files: Sequence[Any]) -> str:
    if len(files) > 3:
        return f"{len(files)} files"
    return ", ".join(safe(f.path) for f in files)


def _go(plan: PullPlan, how: tuple[bool, bool, bool], binary: bool) -> int:
    dry_run, yes, as_json = how
    if dry_run or plan.refused:
        if as_json:
            _emit(plan.to_json(), dry_run, None)
        return 0 if dry_run else 1
    if plan.is_done:
        if as_json:
            _emit(plan.to_json(), dry_run, None)
        else:
            click.echo("Everything is here already.")
        return 0
    if not common.must_agree(f"Download {units.size(plan.fetch, binary=binary)}?", yes=yes, as_json=as_json):
        common.say("Nothing was downloaded.")
        return 1
    return _run(plan.job(), plan.into, plan.to_json(), as_json, binary)


def _run(job: dict[str, Any], into: str, plan: dict[str, Any], as_json: bool, binary: bool) -> int:
    from cachetui.cli import transfer
    from cachetui.jobs import requests
    from cachetui.jobs.model import JobState

    ended = transfer.run(requests.pull(job, into), binary=binary)
    if as_json:
        _emit(plan, False, ended)
    elif ended.state is JobState.DONE and ended.result is not None:
        _say_done(ended.result, plan, binary)
    elif ended.state is JobState.CANCELLED:
        common.say("Interrupted. The same command again goes on where it stopped.")
    else:
        common.say(f"Not done: {ended.reason}")
        if ended.advice:
            common.say(ended.advice[:1].upper() + ended.advice[1:] + ".")
    return transfer.code_of(ended)


def _say_done(result: dict[str, Any], plan: dict[str, Any], binary: bool) -> None:
    came = units.size(int(result.get("received", 0)), binary=binary)
    if "server" in result:
        click.echo(safe(f"{result['target']} is there, pulled by the server at {result['server']}."))
        return
    click.echo(safe(f"{result['target']} is there and verified: {came} came over the network."))
    click.echo(safe(f"In {plan['into']}"))
    if plan["found_by"]:
        click.echo(safe(f"Other programs find it with {' or '.join(plan['found_by'])}"))


def _emit(plan: dict[str, Any], dry_run: bool, ended: Ended | None) -> None:
    from cachetui.cli import data

    job = None
    if ended is not None:
        job = {"state": str(ended.state), "reason": plain(ended.reason), "advice": plain(ended.advice)}
    data.emit(
        {
            "verb": "pull",
            "dry_run": dry_run,
            "plan": plan,
            "outcome": ended.result if ended is not None else None,
            "job": job,
        }
    )


def _ollama(where: Where, target: str, how: tuple[bool, bool, bool], binary: bool) -> int:
    dry_run, yes, as_json = how
    plan = _ollama_plan(where, target)
    if not as_json:
        for line in _ollama_lines(plan):
            click.echo(line)
    if dry_run:
        if as_json:
            _emit(plan.to_json(), dry_run, None)
        return 0
    if not common.must_agree(f"Pull {plan.name}?", yes=yes, as_json=as_json):
        common.say("Nothing was pulled.")
        return 1
    return _run(plan.job(), "", plan.to_json(), as_json, binary)


def _ollama_plan(where: Where, target: str) -> OllamaPlan:
    from cachetui.download import ollama
    from cachetui.download.errors import USAGE, PullError

    try:
        return ollama.prepare(where, target)
    except PullError as e:
        if e.code == USAGE:
            raise click.UsageError(safe(f"{e}: {e.advice}")) from None
        raise Failed(safe(str(e)) + (f"\n{safe(e.advice)}" if e.advice else "")) from None


def _ollama_lines(plan: OllamaPlan) -> list[str]:
    already = "; it has it, so only what changed will come" if plan.here else ""
    return [
        safe(f"{plan.target}: the Ollama server {plan.version} at {plan.url} pulls it{already}."),
        "How much comes is known once the server has asked its registry.",
    ]


def fetch(where: Where, target: str, *, yes: bool, as_json: bool, binary: bool) -> bool:
    """Get what another verb needs; plan, question and outcome go to stderr. Whether it is there. Raises Failed."""
    from cachetui.download.planning import Request

    if target.startswith("ollama:"):
        server = _ollama_plan(where, target)
        return _agreed(_ollama_lines(server), f"Pull {server.name}?", server.job(), "", (yes, as_json, binary))
    plan = _plan(where, Request(target))
    question = f"Download {units.size(plan.fetch, binary=binary)}?"
    if plan.refused or plan.is_done:
        for line in plan_lines(plan, binary):
            click.echo(line, err=True)
        return plan.is_done and not plan.refused
    return _agreed(plan_lines(plan, binary), question, plan.job(), plan.into, (yes, as_json, binary))


def _agreed(lines: Sequence[str], question: str, job: dict[str, Any], into: str, how: tuple[bool, bool, bool]) -> bool:
    from cachetui.cli import transfer
    from cachetui.jobs import requests
    from cachetui.jobs.model import JobState

    yes, as_json, binary = how
    for line in lines:
        click.echo(line, err=True)
    if not common.must_agree(question, yes=yes, as_json=as_json):
        return False
    ended = transfer.run(requests.pull(job, into), binary=binary)
    if ended.state is JobState.FAILED:
        common.say(f"Not done: {ended.reason}" + (f"\n{ended.advice}" if ended.advice else ""))
    return ended.state is JobState.DONE
