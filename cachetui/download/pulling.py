"""Carrying a plan out, from the request alone: the repo is listed again at the planned commit, so it may be resumed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cachetui import subsets
from cachetui.download import errors, hub, planning, preflight, reuse
from cachetui.download.client import Client
from cachetui.download.engine import Engine, Report, Wanted
from cachetui.download.errors import PullError
from cachetui.download.fetching import Settings
from cachetui.download.layout import HubCache, Layout, LocalFolder
from cachetui.download.listing import Listing, read
from cachetui.download.spelling import HubName, parse_hub
from cachetui.fs import DISK, Fs

Tell = Callable[[str, int, int, str], None]


def pull(
    request: Mapping[str, Any],
    *,
    tell: Tell,
    cancelled: Callable[[], bool],
    log: Callable[[str], None] = lambda _: None,
    fs: Fs = DISK,
    client: Client | None = None,
) -> dict[str, Any]:
    """Download what a plan's `job()` says. Raises PullError, PullCancelled, OSError; what came stays."""
    client = Client() if client is None else client
    asked = parse_hub(request["target"])
    tell("list", 0, 0, asked.repo)
    listing = read(client, replace(asked, revision=request["commit"]))
    chosen = planning.select(request, asked, listing)
    if chosen.unknown or chosen.must_choose:
        raise PullError(errors.NO_FILE, f"nothing in it matches {chosen.unknown or 'without --quant'}", "")
    wanted = _wanted(client, asked, listing, chosen.entries, request)
    layout = _layout(fs, request, asked, listing)
    settings = Settings(**request.get("settings", {}))
    own = request["engine"] == "own"
    try:
        layout.begin()
        if not request["local_dir"]:
            with suppress(OSError):  # a help for the listing, no part of the download
                subsets.remember(request["cache"], asked.folder, listing.commit, request, asked.path, fs)
        if own:
            report = Engine(
                client, layout, wanted, settings, progress=lambda *n: tell("download", *n), cancelled=cancelled, log=log
            ).run()
        else:
            report = Report(for_hub=list(wanted))
        for_hub = report.for_hub
        if for_hub:
            report.failed |= hub.download(
                asked,
                listing.commit,
                for_hub,
                cache=request["cache"],
                local_dir=request["local_dir"],
                progress=lambda *n: tell("download with huggingface_hub", *n),
                cancelled=cancelled,
            )
            report.placed += [p for w in for_hub for p in w.paths if p not in report.failed]
        if report.failed:
            raise _failure(report)
        layout.finish()
    finally:
        layout.close()
    return _result(asked, listing, report, request)


def _wanted(
    client: Client, name: HubName, listing: Listing, entries: Any, request: Mapping[str, Any]
) -> tuple[Wanted, ...]:
    """Each content once, with all its names."""
    paths: dict[tuple[str, int], list[str]] = defaultdict(list)
    xets = {e.etag: e.xet for e in entries if e.xet}
    for e in entries:
        paths[e.etag, e.size].append(e.path)
    origins = {etag: reuse.Origin.from_json(body) for etag, body in request.get("origins", {}).items()}
    for etag, xet in xets.items():
        origins.setdefault(etag, reuse.Origin(reuse.SHARED, xet))
    return tuple(
        Wanted(
            etag,
            size,
            tuple(names),
            preflight.file_url(client, name.kind, name.repo, listing.commit, names[0]),
            origins.get(etag),
        )
        for (etag, size), names in paths.items()
    )


def _layout(fs: Fs, request: Mapping[str, Any], name: HubName, listing: Listing) -> Layout:
    from huggingface_hub import constants

    if request["local_dir"]:
        return LocalFolder(fs, request["local_dir"], listing.commit, listing.entries)
    links = not constants.HF_HUB_DISABLE_SYMLINKS
    return HubCache(fs, request["cache"], name.folder, name.revision, listing.commit, listing.entries, links=links)


def _failure(report: Report) -> PullError:
    """One error for all files that did not come; the others are in place."""
    (path, first), *more = report.failed.items()
    others = f"; and {len(more)} more" if more else ""
    came = len(report.placed) + len(report.reused)
    kept = f"; the other {came} are in place" if came else ""
    return PullError(first.code, f"{path}: {first}{others}{kept}", first.advice)


def _result(name: HubName, listing: Listing, report: Report, request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "target": f"{name.target}@{listing.commit}",
        "commit": listing.commit,
        "into": request["local_dir"] or request["cache"],
        "fetched": sorted(report.placed),
        "reused": sorted(report.reused),
        "here": sorted(report.here),
        "received": report.received,
        "engine": request["engine"] if not report.for_hub else "hub",
    }
