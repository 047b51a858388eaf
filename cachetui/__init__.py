"""cachetui: see every AI model on this machine, what it really costs, and delete without fear."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachetui.vlm import VLM as VLM

__version__ = "0.1.0"


if not TYPE_CHECKING:  # else every name would be one of this module's, for a type checker

    def __getattr__(name: str) -> Any:
        """Names that bring torch with them come when they are asked for (PEP 562)."""
        if name == "VLM":
            from importlib import import_module

            return import_module("cachetui.vlm").VLM
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
