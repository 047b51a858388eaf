"""Screens, each with its stylesheet beside it. All but the main one are imported when they open."""
