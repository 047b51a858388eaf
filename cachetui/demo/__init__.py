"""A small world of real formats to try everything on; its builders also serve the tests and the pictures."""

from cachetui.demo.world import build

__all__ = ["build"]
