"""What stands in the way of a download, found before it: room, rights, access, the kind of file system, memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cachetui import filesystem
from cachetui.download import errors, places, reuse
from cachetui.download.client import Client, where
from cachetui.download.errors import PullError
from cachetui.download.selection import Selected
from cachetui.units import size as words

if TYPE_CHECKING:
    from cachetui.download.planning import PlannedFile, PullPlan, Refusal

_LEAST_MARGIN, _MOST_MARGIN = 50_000_000, 2_000_000_000
_SMALL_FILES = frozenset(("vfat", "msdos", "fat"))
_FAT_LIMIT = (1 << 32) - 1


def needed(files: Sequence[PlannedFile]) -> int:
    """Bytes that will be written, each content once."""
    distinct = {f.etag: f for f in files}.values()
    return sum(f.size - f.have for f in distinct if f.action in ("fetch", "resume", reuse.COPY))


def room(path: str, files: Sequence[PlannedFile]) -> tuple[int, int]:
    """(bytes free where it goes, bytes that are to stay free)."""
    try:
        st = os.statvfs(places.nearest(path))
    except OSError:
        return 0, 0
    return st.f_bavail * st.f_frsize, min(max(needed(files) // 50, _LEAST_MARGIN), _MOST_MARGIN)


def judged(plan: PullPlan, chosen: Selected, client: Client, card: str | None = None) -> PullPlan:
    """The plan with what stands in its way, and what is worth knowing.

    `card`: what the memory it takes is compared with (empty: this machine); None leaves memory out.
    """
    refused = [*_choice(plan, chosen), *_place(plan), *_room(plan), *_access(plan, client)]
    asked = plan.name.kind == "model" and not refused and needed(plan.files)
    memory = _memory(plan, chosen, client, card) if asked and card is not None else []
    return replace(plan, refused=tuple(refused), notes=(*memory, *_notes(plan)))


def _refusal(code: str, message: str, advice: str = "") -> Refusal:
    from cachetui.download.planning import Refusal

    return Refusal(code, message, advice)


def _choice(plan: PullPlan, chosen: Selected) -> list[Refusal]:
    if chosen.unknown:
        offer = ", ".join(q.name for q in chosen.quants) if plan.request.quant else ""
        advice = f"there are {offer}" if offer else f"see the files of {plan.name.target} with --dry-run"
        return [_refusal(errors.NO_FILE, f"nothing in it matches {chosen.unknown}", advice)]
    if chosen.must_choose:
        names = ", ".join(f"{q.name} ({words(q.size)})" for q in chosen.quants)
        return [
            _refusal("choose-quant", f"it holds {len(chosen.quants)} quantizations: {names}", "choose one with --quant")
        ]
    if not chosen.entries:
        return [_refusal(errors.NO_FILE, "there is nothing to download in it")]
    return []


def _place(plan: PullPlan) -> list[Refusal]:
    target = plan.local_dir or plan.place.path
    above = places.nearest(target)
    if os.path.lexists(target) and not os.path.isdir(target):
        return [
            _refusal(
                "no-folder", f"{target} is no folder, or a link to one that is not there", "choose another --cache-dir"
            )
        ]
    repo = os.path.join(plan.place.path, plan.name.folder)
    if not plan.local_dir and os.path.islink(repo):
        archive = f"it lies in an archive: {os.readlink(repo)}"
        again = plan.request.target if plan.request.target.startswith("hf:") else plan.name.target
        commands = f"cachetui restore {plan.name.target} && cachetui pull {again}"
        return [_refusal("archived", archive, f"what would come belongs beside it, so bring it back first: {commands}")]
    if not needed(plan.files) and all(f.action == "here" for f in plan.files):
        return []
    writable = os.path.join(plan.into) if os.path.isdir(plan.into) else above
    mount = filesystem.mount_of(os.path.realpath(writable))
    if (mount is not None and mount.read_only) or not os.access(writable, os.W_OK | os.X_OK):
        return [
            _refusal("read-only", f"this user may not write to {writable}", "choose another folder with --cache-dir")
        ]
    largest = max((f.size for f in plan.files), default=0)
    if mount is not None and mount.type in _SMALL_FILES and largest > _FAT_LIMIT:
        return [
            _refusal("no-big-files", f"the file system of {above} ({mount.type}) holds no file of {words(largest)}")
        ]
    return []


def _room(plan: PullPlan) -> list[Refusal]:
    wanted = needed(plan.files)
    if wanted == 0 or wanted + plan.margin <= plan.free:
        return []
    missing = wanted + plan.margin - plan.free
    message = (
        f"{words(wanted)} will come, {words(plan.free)} are free in {plan.local_dir or plan.place.path}, "
        f"and {words(plan.margin)} are to stay free"
    )
    return [_refusal(errors.NO_ROOM, message, f"make {words(missing)} of room: cachetui ls --sort size")]


def _access(plan: PullPlan, client: Client) -> list[Refusal]:
    """A gated repo says so only when a file is asked for."""
    first = next((f for f in plan.files if f.action in ("fetch", "resume")), None)
    if first is None or not (plan.listing.gated or plan.listing.private):
        return []
    try:
        with client.open("HEAD", file_url(client, plan.name.kind, plan.name.repo, plan.commit, first.path)) as answer:
            client.must_be_ok(answer)
    except PullError as e:
        page = f"{where(client.endpoint)}/{plan.name.repo}" if e.code == errors.GATED else ""
        return [_refusal(e.code, f"{plan.name.target}: {e}", f"{e.advice}{f' ({page})' if page else ''}")]
    except client.transient:
        return []
    return []


def file_url(client: Client, kind: str, repo: str, commit: str, path: str) -> str:
    """Where the Hub gives out a file (file_download.hf_hub_url)."""
    from urllib.parse import quote

    prefix = "" if kind == "model" else f"{kind}s/"
    return f"{client.endpoint}/{prefix}{repo}/resolve/{quote(commit, safe='')}/{quote(path)}"


def _memory(plan: PullPlan, chosen: Selected, client: Client, card: str) -> list[str]:
    """What loading it takes and whether that goes in, by its config and the headers of its weights."""
    if not any(f.role == "weights" for f in plan.files):
        return []
    from cachetui.download import metadata
    from cachetui.memory import devices, running
    from cachetui.memory.estimating import estimate
    from cachetui.memory.model import Fit
    from cachetui.memory.sources import Facts, NotAModel

    try:
        facts = metadata.facts_of(client, plan.name, plan.listing, chosen.entries)
    except (PullError, NotAModel):  # by their length then: the same kind of figure, rougher
        weights = sum(f.size for f in plan.files if f.role == "weights")
        facts = Facts(plan.name.target, plan.name.repo, {}, weights=weights, exact=False)
    found = estimate(facts)
    try:
        compared = devices.chosen(card)
    except devices.UnknownCard:
        compared = devices.here()
    notes = []
    for device in compared:
        run = running.run_of(found, device, devices.ram())
        whole = found.modes[0]
        told = f"loading it {'in ' + found.quantization if found.quantization else 'as it is'}"
        told += f" takes about {words(whole.total)} of memory"
        told += f" with {found.context:,} tokens; {device.name}, {words(device.usable)}: "
        as_is = devices.fit_of(whole.total, device)
        told += {Fit.FITS: "it fits", Fit.TIGHT: "it fits tightly", Fit.NO: "that does not fit"}[as_is]
        if as_is is not Fit.FITS and run.take is not None and run.take is not whole:
            shorter = f" with at most {run.context:,} tokens" if run.is_short else ""
            told += f", {run.take.name} does{shorter} ({words(run.take.total)})"
        elif run.take is None:
            told += f"; what works: {', '.join(w.name for w in run.instead)}"
        notes.append(told)
    return notes


def _notes(plan: PullPlan) -> list[str]:
    notes = []
    if plan.request.engine == "hub":
        notes.append("huggingface_hub downloads it, over Xet where hf_xet is installed; a killed download starts again")
    if plan.listing.gated:
        notes.append(f"the repo is gated{f', licence {plan.listing.licence}' if plan.listing.licence else ''}")
    if not plan.local_dir and not plan.place.exists:
        notes.append(f"{plan.place.path} does not exist yet and will be made")
    if not plan.local_dir and plan.place.found_by:
        notes.append(f"other programs find it in {plan.place.path} with {' or '.join(plan.place.found_by)}")
    return notes
