"""Colours. The default is quiet; one is safe for colour-blind eyes; Textual's own can be chosen too."""

from __future__ import annotations

from textual.theme import Theme

DEFAULT = "cachetui-dark"

THEMES = (
    Theme(
        name="cachetui-dark",
        primary="#7aa2f7",
        secondary="#565f89",
        accent="#e0af68",
        warning="#e0af68",
        error="#f7768e",
        success="#9ece6a",
        foreground="#c8d0e8",
        background="#16181f",
        surface="#1d2029",
        panel="#242836",
        variables={"border": "#7aa2f7"},
    ),
    Theme(
        name="cachetui-light",
        primary="#2a5db0",
        secondary="#8a97b5",
        accent="#9a5b00",
        warning="#9a5b00",
        error="#b3263e",
        success="#3c7a1e",
        foreground="#22262f",
        background="#f6f6f3",
        surface="#ecece7",
        panel="#e0e0da",
        dark=False,
    ),
    # Okabe and Ito's palette: told apart with any colour vision, and by brightness alone.
    Theme(
        name="cachetui-clear",
        primary="#56b4e9",
        secondary="#0072b2",
        accent="#f0e442",
        warning="#f0e442",
        error="#d55e00",
        success="#cc79a7",
        foreground="#f0f0f0",
        background="#101010",
        surface="#1a1a1a",
        panel="#262626",
    ),
)
