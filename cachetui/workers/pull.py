"""Download from a Hub, or have the Ollama server pull."""

from __future__ import annotations

import os

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main


def work(request: Json, channel: Channel) -> Json:
    """One `requests.pull`."""
    from cachetui.download.errors import PullCancelled, PullError

    def tell(phase: str, done: int, total: int, name: str) -> None:
        channel.progress(phase, done, total, name)

    try:
        if request["source"] == "ollama":
            from cachetui.download import ollama

            return ollama.pull(request, tell=tell, cancelled=channel.cancelled)
        # The bars of the library would be lines among the worker's last words.
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        from cachetui.download import pulling

        return pulling.pull(request, tell=tell, cancelled=channel.cancelled, log=channel.log)
    except PullCancelled:
        raise WorkCancelled from None
    except PullError as e:
        raise WorkFailed(str(e), e.advice) from None


if __name__ == "__main__":
    main(work)
