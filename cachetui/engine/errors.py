"""Why the engine could not: a reason a person understands, and what to do about it."""

from __future__ import annotations

NO_MEMORY = "no-memory"
NOT_INSTALLED = "not-installed"
MISSING_PROCESSOR = "missing-processor"
REMOTE_CODE = "remote-code"
NO_SAFETENSORS = "no-safetensors"
UNKNOWN_ARCHITECTURE = "unknown-architecture"
DAMAGED = "damaged"
DEVICE = "device"
TOO_LONG = "too-long"
UNSUPPORTED = "unsupported"
NO_SERVER = "no-server"
NO_MODEL = "no-model"
STATE_MISMATCH = "state-mismatch"
STATE_DAMAGED = "state-damaged"
STATE_TOO_LARGE = "state-too-large"


class EngineError(Exception):
    """`str(error)` is the reason. Both texts may hold outside strings."""

    def __init__(self, reason: str, advice: str = "", code: str = UNSUPPORTED) -> None:
        super().__init__(reason)
        if advice:
            self.add_note(advice)  # a traceback in somebody's own program shows it too
        self.reason = reason
        self.advice = advice
        """What to do, with the command to type where there is one; empty: nothing is known to help."""
        self.code = code
        """One of the constants above."""


class Cancelled(Exception):
    """The person stopped it. Nothing is kept."""
