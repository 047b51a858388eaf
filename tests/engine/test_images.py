"""Pictures: opened whatever they are, upright, lowered exactly as said, and refused with a reason."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from needs import needs

from cachetui.engine.errors import EngineError
from cachetui.engine.images import lowered, open_picture

Image = needs("PIL.Image", reason="needs pillow (extra models)")


def saved(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> Path:
    Image.effect_noise(size, 80).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.jpg", "CMYK"), ("b.png", "LA"), ("c.png", "1"), ("a.gif", "P"), ("a.webp", "RGBA"),
     ("a.bmp", "L"), ("a.tif", "I;16"), ("a.ppm", "RGB")],
)  # fmt: skip
def test_every_kind_becomes_rgb(name: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if mode == "I;16":
        Image.effect_noise((40, 30), 80).convert("I").convert("I;16").save(path)
    else:
        saved(path, mode)
    found = open_picture(str(path))
    assert (found.image.mode, found.size, found.original) == ("RGB", (40, 30), (40, 30))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "t.png")
    assert open_picture(str(tmp_path / "t.png")).image.getpixel((1, 1)) == (255, 255, 255)


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "p.jpg", exif=exif)
    assert open_picture(str(path)).size == (30, 40)


def test_lowered(tmp_path: Path) -> None:
    path = str(saved(tmp_path / "a.png", size=(400, 200)))
    found = open_picture(path, max_pixels=20_000)
    assert (found.size, found.image.size, found.original) == ((200, 100), (200, 100), (400, 200))
    assert open_picture(path, max_pixels=80_000).size == (400, 200)
    assert open_picture(path, resize=(7, 9), max_pixels=10).image.size == (7, 9)
    assert open_picture(path).sha256 == found.sha256


@pytest.mark.parametrize("size", [(400, 200), (1, 10_000), (10_000, 1), (333, 777), (3, 3)])
@pytest.mark.parametrize("most", [1, 2, 10, 5000, 10**9])
def test_never_more_pixels_than_allowed(size: tuple[int, int], most: int) -> None:
    width, height = lowered(size, max_pixels=most)
    assert 1 <= width <= size[0] and 1 <= height <= size[1]
    assert width * height <= max(most, 1)


def test_noise_is_the_same_every_time() -> None:
    one, two, other = open_picture("noise"), open_picture("noise"), open_picture("noise", seed=1)
    assert one.sha256 == two.sha256 != other.sha256
    assert one.image.tobytes() == two.image.tobytes()
    assert open_picture("noise", resize=(20, 20)).sha256 == one.sha256


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    text, cut, pipe = tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "pipe.png"
    text.write_text("no picture")
    cut.write_bytes(saved(tmp_path / "whole.png", size=(200, 200)).read_bytes()[:5000])
    os.mkfifo(pipe)
    postscript = tmp_path / "p.eps"
    postscript.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    for path in (text, cut, pipe, postscript, tmp_path, tmp_path / "none.png"):
        with pytest.raises(EngineError) as caught:
            open_picture(str(path))
        assert str(path) in caught.value.reason
    for options in ({"resize": (0, 5)}, {"resize": (10**5, 10**5)}, {"max_pixels": -1}):
        with pytest.raises(EngineError):
            open_picture("noise", **options)  # type: ignore[arg-type]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(EngineError, match="million pixels are not read"):
        open_picture(str(path))
