"""Pictures as a model sees them: opened, turned upright, lowered in resolution, named by their hash."""

from __future__ import annotations

import hashlib
import io
import os
import random
import stat
import warnings
from dataclasses import dataclass
from typing import Any

from cachetui.engine.errors import DAMAGED, NOT_INSTALLED, UNSUPPORTED, EngineError
from cachetui.states import predicting

NOISE = "noise"
"""The spec of a random test picture."""
NOISE_SIZE = (448, 448)
MAX_BYTES = 1 << 29
MAX_DECODED = 150_000_000
"""Pixels of a picture before it is lowered."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "MPO")
"""Decoders that read nothing but the file and start no program (EPS would start Ghostscript)."""


@dataclass(frozen=True)
class Picture:
    """One picture for a model."""

    image: Any
    """PIL, mode RGB, lowered."""
    source: str
    """The path as given, or `noise`."""
    sha256: str
    """Of the file's bytes; of the pixels where there is no file."""
    size: tuple[int, int]
    """Width and height in pixels, of `image`."""
    original: tuple[int, int]
    """Width and height before it was lowered."""


def open_picture(spec: str, *, max_pixels: int = 0, resize: tuple[int, int] | None = None, seed: int = 0) -> Picture:
    """A picture file, or `noise`. Raises EngineError.

    `max_pixels`: made smaller, with its shape kept, until width x height is at most that; 0: as it is.
    `resize`: exactly that width and height; wins over `max_pixels`. `seed`: of the noise.
    """
    Image, ImageOps = _pillow()
    if spec == NOISE:
        image = _noise(Image, seed)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
    else:
        data = _bytes(spec)
        digest = hashlib.sha256(data).hexdigest()
        image = _decoded(Image, ImageOps, spec, data)
    return _lowered(Image, image, spec, digest, max_pixels, resize)


def picture_of(value: Any, *, max_pixels: int = 0, resize: tuple[int, int] | None = None, seed: int = 0) -> Picture:
    """What a program has in hand: a path, `noise`, the bytes of a picture file, or a PIL image. Raises EngineError."""
    if isinstance(value, str | os.PathLike):
        return open_picture(os.fsdecode(value), max_pixels=max_pixels, resize=resize, seed=seed)
    Image, ImageOps = _pillow()
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        digest = hashlib.sha256(data).hexdigest()
        return _lowered(Image, _decoded(Image, ImageOps, "bytes", data), "bytes", digest, max_pixels, resize)
    if isinstance(value, Image.Image):
        image = _on_white(Image, ImageOps.exif_transpose(value))
        return _lowered(Image, image, "image", hashlib.sha256(image.tobytes()).hexdigest(), max_pixels, resize)
    raise EngineError(
        f"a picture cannot be a {type(value).__name__}", "give a path, `noise`, bytes, a PIL image, or a list of these"
    )


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise EngineError("pictures need the package pillow", "pip install 'cachetui[models]'", NOT_INSTALLED) from None
    return Image, ImageOps


def _lowered(
    pil: Any, image: Any, source: str, digest: str, max_pixels: int, resize: tuple[int, int] | None
) -> Picture:
    original = image.size
    target = lowered(original, max_pixels=max_pixels, resize=resize)
    if target != original:
        image = image.resize(target, pil.Resampling.BICUBIC)
    return Picture(image, source, digest, target, original)


def lowered(size: tuple[int, int], *, max_pixels: int = 0, resize: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height that a picture of `size` gets. Raises EngineError for sizes that mean nothing."""
    if resize is not None:
        if min(resize) < 1 or resize[0] * resize[1] > MAX_DECODED:
            raise EngineError(f"a picture cannot be made {resize[0]}x{resize[1]}", "--resize 640x480", UNSUPPORTED)
        return resize[0], resize[1]
    if max_pixels < 0:
        raise EngineError(f"a picture cannot have {max_pixels} pixels", "--max-pixels 200000", UNSUPPORTED)
    return predicting.lowered(size, max_pixels=max_pixels)


def _noise(image: Any, seed: int) -> Any:
    width, height = NOISE_SIZE
    return image.frombytes("RGB", NOISE_SIZE, random.Random(seed).randbytes(width * height * 3))


def _bytes(path: str) -> bytes:
    ask = "name a picture file, or `noise`"
    try:
        fd = os.open(path, _FLAGS)
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or "cannot be opened"
        raise EngineError(f"{path}: {why.lower()}", ask) from None
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise EngineError(f"{path}: not a regular file", ask)
        if st.st_size > MAX_BYTES:
            raise EngineError(f"{path}: larger than {MAX_BYTES >> 20} MiB", "make it smaller first")
        with open(fd, "rb", closefd=False) as f:
            return f.read(MAX_BYTES)
    except OSError as e:
        raise EngineError(f"{path}: {(e.strerror or 'cannot be read').lower()}", "", DAMAGED) from None
    finally:
        os.close(fd)


def _decoded(image: Any, ops: Any, path: str, data: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit below is ours
            found = image.open(io.BytesIO(data), formats=_FORMATS)
            if found.width * found.height > MAX_DECODED:
                raise _too_large(path)
            upright = ops.exif_transpose(found)
            return _on_white(image, upright)
    except EngineError:
        raise
    except MemoryError:
        raise
    except image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as e:
        # Decoders raise nearly anything for what strangers put into a file.
        known = type(e).__name__ != "UnidentifiedImageError"
        why = f"the picture is damaged ({e})" if known else "not a picture that can be read"
        raise EngineError(f"{path}: {why}", f"readable are {', '.join(_FORMATS[:7])}", DAMAGED) from None


def _too_large(path: str) -> EngineError:
    return EngineError(
        f"{path}: more than {MAX_DECODED // 1_000_000} million pixels are not read", "make it smaller first"
    )


def _on_white(image: Any, picture: Any) -> Any:
    """RGB; what is transparent becomes white, as a viewer shows it, not black."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = image.new("RGBA", picture.size, (255, 255, 255, 255))
        return image.alpha_composite(white, picture).convert("RGB")
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        return picture.point(lambda value: value / 256).convert("L").convert("RGB")
    return picture.convert("RGB")
