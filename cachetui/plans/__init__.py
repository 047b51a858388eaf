"""Verbs that change disk: make a Plan (planner, preflight), act on it (executor), get it back (trash, journal)."""
