"""What headers promise: whole, cut short, overwritten; without reading tensors, unpickling or believing a length."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_world import weights

from cachetui.demo.builders import gguf_bytes
from cachetui.gguf import Broken
from cachetui.gguf_tensors import tensors_end
from cachetui.verify.structure import fault


def put(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "file"
    path.write_bytes(data)
    return str(path)


def gguf_with_tensors(alignment: int = 32) -> bytes:
    """A GGUF with two tensors: 64 weights as F32, 256 as Q4_K."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    out = b"GGUF" + struct.pack("<IQQ", 3, 2, 2)
    out += string("general.alignment") + struct.pack("<II", 4, alignment)
    out += string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + b"".join(map(string, ("a", "b", "c")))
    out += string("one") + struct.pack("<IQIQ", 1, 64, 0, 0)
    out += string("two") + struct.pack("<IQQIQ", 2, 16, 16, 12, 256)
    out += bytes(-len(out) % alignment)
    return out + bytes(256 + 144)


def a_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        z.writestr("archive/data/0", bytes(5000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.safetensors", weights("s")), ("a.gguf", gguf_with_tensors()), ("a.gguf", gguf_bytes({"a": "b"}, 100)),
     ("a.GGUF", gguf_with_tensors(64)), ("pytorch_model.bin", a_zip())],
    ids=["safetensors", "gguf", "gguf-small", "upper-case", "pytorch"],
)  # fmt: skip
def test_whole_files_are_sound(tmp_path: Path, name: str, data: bytes) -> None:
    assert fault(name, put(tmp_path, data)) == ""


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.safetensors", weights("s")), ("a.gguf", gguf_with_tensors()), ("model.pt", a_zip())],
)
def test_cut_at_any_place_is_seen(tmp_path: Path, name: str, data: bytes) -> None:
    for length in (*range(4, min(len(data), 400), 7), len(data) // 2, len(data) - 1):
        assert fault(name, put(tmp_path, data[:length])), length


@pytest.mark.parametrize("name", ["a.safetensors", "a.gguf"])
def test_zeros_and_noise_are_no_model(tmp_path: Path, name: str) -> None:
    assert fault(name, put(tmp_path, bytes(5000)))
    assert fault(name, put(tmp_path, b"<html>not found</html>" * 50))
    assert fault(name, put(tmp_path, b""))


def test_more_than_the_header_knows_is_a_fault(tmp_path: Path) -> None:
    assert "more than its header knows" in str(fault("a.safetensors", put(tmp_path, weights("s") + b"x")))


def test_an_old_pickle_and_other_formats_say_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, b"\x80\x02}q\x00.")
    for name in ("old.bin", "config.json", "README.md", "noname"):
        assert fault(name, path) is None


def test_what_cannot_be_opened_says_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    assert fault("a.gguf", str(tmp_path / "p")) is None
    assert fault("a.gguf", str(tmp_path / "nothing")) is None


def test_a_zip64_directory(tmp_path: Path) -> None:
    data = a_zip()
    at = data.rfind(b"PK\x05\x06")
    entries, length, offset = struct.unpack("<HII", data[at + 10 : at + 20])
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, entries, entries, length, offset)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, at, 1)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    whole = data[:at] + record + locator + end
    assert fault("big.bin", put(tmp_path, whole)) == ""
    assert fault("big.bin", put(tmp_path, data[:at] + locator + end))


HEADS = st.sampled_from([b"", b"GGUF", b"PK\x03\x04"])


@given(st.binary(max_size=300), st.sampled_from(["a.safetensors", "a.gguf", "a.bin"]), HEADS)
@settings(max_examples=150, deadline=None)
def test_no_bytes_crash_it(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str, head: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(head + data)
    fault(name, str(path))


def test_lengths_are_not_believed(tmp_path: Path) -> None:
    huge = struct.pack("<Q", 1 << 63)
    assert fault("a.safetensors", put(tmp_path, huge + b"{}"))
    assert fault("a.gguf", put(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 0) + bytes(100)))
    assert fault("a.gguf", put(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + huge + bytes(100)))
    with pytest.raises(Broken):
        tensors_end(b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0))
