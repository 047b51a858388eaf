"""Outside strings: the one place that makes them safe for a terminal, and TARGETs that survive a round trip.

Names, refs, config values, log lines and model output come from strangers (invariant I11). A terminal acts on
control characters, bidirectional overrides reorder what is read, zero-width characters hide. All of them are
shown as escapes. Markup is not interpreted here at all: callers hand the result to APIs that parse none.
"""

from __future__ import annotations

import os
import re
import unicodedata

# Control, format (bidi, zero-width, tags, soft hyphen), surrogates, separators, private, unassigned.
_UNSAFE_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"))
# Letters and marks that render as nothing, or stack without end.
_UNSAFE_EXTRA = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
_MAX_COMBINING = 2

_PLAIN = re.compile(r"[ -~]*\Z")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")


def _escape_char(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def safe(text: str) -> str:
    """A string that any terminal shows literally: one line, no control, bidi or invisible characters.

    Undecodable bytes (surrogateescape) become `\\xNN`, other unsafe characters `\\xNN` or `\\uNNNN`.
    """
    if _PLAIN.match(text):
        return text
    out: list[str] = []
    combining = 0
    for char in text:
        category = unicodedata.category(char)
        combining = combining + 1 if category in ("Mn", "Me") else 0
        blank = category == "Zs" and char != " "  # a no-break or wide space is taken for a plain one
        if category in _UNSAFE_CATEGORIES or blank or char in _UNSAFE_EXTRA or combining > _MAX_COMBINING:
            out.append(_escape_char(char))
        else:
            out.append(char)
    return "".join(out)


def safe_block(text: str) -> str:
    """Like `safe` for text of several lines: newlines stay, tabs become spaces."""
    return "\n".join(safe(line) for line in text.replace("\t", "    ").split("\n"))


def encode_target(name: str) -> str:
    """A name as it stands in a TARGET or id: backslash doubled, undecodable bytes as `\\xNN`, the rest as it is."""
    if name.isascii() and "\\" not in name:
        return name
    name = name.replace("\\", "\\\\")
    return "".join(_escape_char(c) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in name)


def decode_target(text: str) -> str:
    """The inverse of `encode_target`; also undoes what `safe` did to an id that was copied from the screen."""

    def one(match: re.Match[str]) -> str:
        body = match[1]
        if body == "\\":
            return "\\"
        code = int(body[1:], 16)
        if body[0] == "x":
            return chr(code) if code < 0x80 else chr(0xDC00 + code)
        return match[0] if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)

    # Bytes given one by one may form UTF-8 again: join them as bytes, then decode the way names are decoded.
    return os.fsdecode(os.fsencode(_ESCAPE.sub(one, text)))


def is_lossy(name: str) -> bool:
    """True when a name holds bytes that are not UTF-8, so that JSON cannot carry it as text."""
    return any(0xDC80 <= ord(c) <= 0xDCFF for c in name)
