"""cachetui quantize TARGET: quantize a model once and keep the result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import common
from cachetui.cli.common import Failed, Session
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.model import Ended
    from cachetui.quantized_entries.planning import QuantPlan
    from cachetui.quantized_entries.ways import Way


@common.verb("make")
@click.argument("target", required=False)
@click.option("--bits", type=click.Choice(["4", "8"]), default="4", show_default=True, help="4 is nf4, 8 is int8.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["bitsandbytes", "mlx", "gguf"]),
    default="bitsandbytes",
    show_default=True,
    help="What is made: for transformers, mlx_lm (extra mlx), or llama.cpp and Ollama (extra gguf).",
)
@click.option(
    "--type",
    "type_",
    type=click.Choice(["Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"], case_sensitive=False),
    default="Q4_K_M",
    show_default=True,
    help="With --format gguf: which mix of K-quants.",
)
@click.option("--name", metavar="ORG/NAME", default="", help="With --format mlx: mlx_lm finds it by this name, too.")
@click.option("--double-quant", is_flag=True, help="With 4 bits: quantize the maxima too, which saves some 0.4 bits.")
@click.option("--dtype", default="auto", show_default=True, help="Of what stays unquantized; auto is the config's.")
@click.option("--skip", multiple=True, metavar="MODULE", help="Leaves this out too, e.g. model.layers.0 (repeatable).")
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="Of the LoRA it is made for.")
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:N, mps.")
@click.option("--quant-dir", metavar="DIR", default="", help="Where it is kept; else quant_dir, QWEN_CACHE, default.")
@click.option("--trust-remote-code", is_flag=True, help="Let the Python code in the model's repo run.")
@click.option("--self-test", is_flag=True, help="Make, reload, damage and make again a tiny model in that folder.")
@common.root_option
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def make(
    target: str | None,
    bits: str,
    format_: str,
    type_: str,
    name: str,
    double_quant: bool,
    dtype: str,
    skip: tuple[str, ...],
    rank: int,
    device: str,
    quant_dir: str,
    trust_remote_code: bool,
    self_test: bool,
    root: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Quantize a model that is on this machine and keep the result: the next time it loads in a second.

    The part that sees and the output layer stay as they are. Asked again for the same, it says that it is there. A new
    commit, dtype, rank, setting or generation of a library is a new entry.

    \b
    Examples:
      cachetui quantize hf:Qwen/Qwen3-VL-2B-Instruct
      cachetui quantize hf:Qwen/Qwen3-VL-2B-Instruct --bits 8 --dry-run
      cachetui quantize dir:~/models/mine --double-quant --rank 16 --quant-dir /mnt/fast/quantized
      cachetui quantize hf:Qwen/Qwen3-4B --format mlx --name me/Qwen3-4B-4bit
      cachetui quantize hf:Qwen/Qwen3-4B --format gguf --type Q4_K_M
      cachetui quantize --self-test
    """
    if self_test:
        if target:
            raise click.UsageError("--self-test makes its own model: leave TARGET out")
        return _self_test(quant_dir, (dry_run, yes, as_json))
    if not target:
        raise click.UsageError("name a model: cachetui quantize TARGET (or info, verify, clean)")
    from cachetui.runnable import Options

    if double_quant and bits != "4":
        raise click.UsageError("--double-quant is for --bits 4")
    way = _way(format_, bits, type_, name)
    options = Options(device, dtype, int(bits) if way is None else 0, double_quant, trust_remote_code)
    where = common.to_where(cache_dir, search)
    session = common.begin(where, dry_run=dry_run, binary=binary)
    plan = _plan(
        session, target, root, options, {"way": way, "name": name, "skip": skip, "rank": rank, "quant_dir": quant_dir}
    )
    if not as_json:
        for line in plan_lines(plan, session.binary):
            click.echo(line)
    return _go(plan, (dry_run, yes, as_json), session.binary)


_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
"""What huggingface_hub takes for a repo (utils/_validators.py), with an organisation."""


def _way(format_: str, bits: str, type_: str, name: str) -> Way | None:
    """What is made beside what bitsandbytes makes. Raises UsageError for options that mean nothing for it."""
    from click.core import ParameterSource

    from cachetui.quantized_entries.ways import GGUF, MLX, Way

    plain = ("double_quant", "skip", "rank", "device", "trust_remote_code")
    meant: dict[str, tuple[str, ...]] = dict.fromkeys(plain, ("bitsandbytes",))
    meant |= {"bits": ("bitsandbytes", MLX), "dtype": ("bitsandbytes", MLX), "type_": (GGUF,), "name": (MLX,)}
    context = click.get_current_context()
    for option, formats in meant.items():
        if format_ not in formats and context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            spelled = option.strip("_").replace("_", "-")
            raise click.UsageError(f"--{spelled} is for --format {' and '.join(formats)}")
    if name and not _NAME.fullmatch(name):
        raise click.UsageError(f"--name {name}: write it as ORG/NAME")
    if format_ == "bitsandbytes":
        return None
    return Way(format_, int(bits), type_) if format_ == MLX else Way(format_, type=type_)


def _plan(session: Session, target: str, root: str | None, options: Any, more: dict[str, Any]) -> QuantPlan:
    from cachetui.cli.progress import Bar
    from cachetui.jobs.model import Progress
    from cachetui.quantized_entries.planning import prepare
    from cachetui.quantized_entries.wishes import NotHere
    from cachetui.runnable import NotRunnable, runnable_of
    from cachetui.wanted import BadRequest

    selection = common.find(session, target, common.real_root(session, root))
    try:
        runnable = runnable_of(selection, options, session.where)
        with Bar(session.binary) as bar:
            read = 0

            def told(count: int) -> None:
                nonlocal read
                read += count
                bar.tell(Progress("identify", read, selection.item.size, name=selection.item.name))

            return prepare(session.where, selection, runnable, told=told, **more)
    except BadRequest as e:
        raise click.UsageError(safe(str(e))) from None
    except NotRunnable as e:
        advice = f"\n{safe(e.advice)}" if e.advice else ""
        raise Failed(f"{safe(target)}: {safe(e.reason)}{advice}") from None
    except NotHere as e:
        raise Failed(f"{safe(target)}: {safe(str(e))}") from None


def plan_lines(plan: QuantPlan, binary: bool) -> list[str]:
    """The plan for people."""

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    commit = f"@{plan.wanted.commit[:7]}" if plan.wanted.commit else ""
    lines = [
        safe(f"{plan.wanted.name}{commit} to {plan.identity.label}, {plan.identity.dtype} where it stays as it is:")
    ]
    if plan.there is not None:
        manifest = plan.there.manifest
        assert manifest is not None
        made = units.iso(manifest.made)
        lines.append(safe(f"  It is there already: {size(manifest.size)}, made {made}, checked just now."))
        lines.append(safe(f"  {plan.there.path}"))
        if plan.name and not plan.refused:
            known = "is known" if plan.is_named else "becomes known"
            lines.append(safe(f"  It {known} as {plan.name} in {plan.hub}"))
        return [*lines, *_refused(plan)]
    if plan.size:
        less = f" ({plan.size / plan.source:.0%} of {size(plan.source)})" if plan.source else ""
        lines.append(f"  on disk    {size(plan.size):>10}{less}")
        lines.append(
            f"  memory     {size(plan.memory):>10} or so while it is made; {size(plan.usable)} free, {plan.device}"
        )
        if plan.plain:
            lines.append(safe(f"  stays      {', '.join(plan.plain)}"))
    lines.append(safe(f"  kept in    {plan.path}"))
    lines.append(safe(f"             {plan.storage.words}; {size(max(plan.room.free, 0))} free"))
    if plan.name:
        lines.append(safe(f"  known as   {plan.name}, in {plan.hub}"))
    if plan.damaged:
        lines.append(safe(f"  ! the one that is there is damaged: {plan.damaged}. It goes to the trash."))
    lines += [safe(f"  ! {n}") for n in plan.notes]
    return [*lines, *_refused(plan)]


def _refused(plan: QuantPlan) -> list[str]:
    return [f"Refused: {safe(r.message)}" + (f"\n  {safe(r.advice)}" if r.advice else "") for r in plan.refused]


def _go(plan: QuantPlan, how: tuple[bool, bool, bool], binary: bool) -> int:
    from cachetui.cli import transfer
    from cachetui.jobs import requests

    dry_run, yes, as_json = how
    if dry_run or plan.refused or plan.is_done:
        if as_json:
            _emit(plan, dry_run, None)
        return 1 if plan.refused and not dry_run else 0
    if not common.must_agree(f"Quantize {safe(plan.wanted.name)}?", yes=yes, as_json=as_json):
        common.say("Nothing was made.")
        return 1
    ended = transfer.run(requests.quantize(plan.job()), binary=binary)
    if as_json:
        _emit(plan, False, ended)
    else:
        _say(ended, plan, binary)
    return transfer.code_of(ended)


def _say(ended: Ended, plan: QuantPlan, binary: bool) -> None:
    from cachetui.jobs.model import JobState

    if ended.state is JobState.DONE and ended.result is not None:
        r = ended.result
        done = "there already" if plan.there else "made" if r["made"] else "there: another process made it"
        size, peak = units.size(r["size"], binary=binary), units.size(r["peak_memory"], binary=binary)
        click.echo(safe(f"{plan.identity.label} of {plan.wanted.name}: {done}, {size} in {r['files']} files."))
        if r["made"]:
            click.echo(f"It took {r['seconds']:.1f} s and {peak} of memory.")
        click.echo(safe(f"In {r['entry']}"))
        click.echo(safe(f"Ask it: cachetui prompt quant:{plan.identity.key[:12]} TEXT"))
        if r["named"]:
            click.echo(safe(f"mlx_lm finds it: mlx_lm.generate --model {plan.name} --prompt TEXT"))
        if plan.identity.method == "gguf":
            click.echo(safe(f"Ollama takes it: {r['use']}"))
    elif ended.state is JobState.CANCELLED:
        common.say("Interrupted. Nothing of it is left.")
    else:
        common.say(safe(f"Not done: {ended.reason}"))
        if ended.advice:
            common.say(safe(ended.advice[:1].upper() + ended.advice[1:] + "."))


def _emit(plan: QuantPlan, dry_run: bool, ended: Ended | None) -> None:
    from cachetui.cli import data

    job = None
    if ended is not None:
        job = {"state": str(ended.state), "reason": data.plain(ended.reason), "advice": data.plain(ended.advice)}
    data.emit(
        {
            "verb": "quantize",
            "dry_run": dry_run,
            "plan": plan.to_json(),
            "outcome": ended.result if ended is not None else None,
            "job": job,
        }
    )


def _self_test(quant_dir: str, how: tuple[bool, bool, bool]) -> int:
    from cachetui.cli.quantize_test import run

    return run(quant_dir, how)
