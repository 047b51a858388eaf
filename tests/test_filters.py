"""Filter expressions mean what `hf cache ls --filter` says they mean, and more; what is wrong with one is said."""

from __future__ import annotations

import time
from array import array
from types import SimpleNamespace

import pytest
from huggingface_hub.cli.cache import compile_cache_filter
from hypothesis import given
from hypothesis import strategies as st

from cachetui.filters import KEYS, FilterError, asks_upstream, compile_filter
from cachetui.ledger import Scan
from cachetui.model import Blob, Item, Revision, Root, RootScan, Traits

GB, DAY = 10**9, 86400
MAIN = Revision("a" * 40, ("main", "v1"), "models--org--Name/snapshots/" + "a" * 40, (), array("i"), 3 * GB)
OLD = Revision("b" * 40, (), "models--org--Name/snapshots/" + "b" * 40, (), array("i"), 9 * GB)


def item(**changes: object) -> Item:
    values: dict[str, object] = {
        "id": "hf:org/Name",
        "store": "hf",
        "root": "/r",
        "kind": "model",
        "name": "org/Name",
        "path": "models--org--Name",
        "size": 12 * GB,
        "file_count": 7,
        "last_used": time.time() - 100 * DAY,
        "last_modified": time.time() - 10 * DAY,
        "revisions": (MAIN, OLD),
        "traits": Traits(("safetensors",), "GPTQ 4-bit", "llama", "8B", ("transformers", "GPT-QModel")),
    }
    return Item(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "expression",
    ["size>10GB", "size<10GB", "size>=12GB", "size<=12GB", "size=12000000000", "size!=1GB", "size>100", "SIZE>1GB",
     "accessed>30d", "accessed>6mo", "accessed<1y", "modified<2w", "modified>1d", "modified>864", "type=model",
     "type=MODEL", "type=dataset", "refs=main", "refs=MAIN", "refs=v2", "size > 10GB", "accessed >= 12w"],
)  # fmt: skip
def test_hf_expressions_mean_the_same(expression: str) -> None:
    it = item()
    repo = SimpleNamespace(
        size_on_disk=it.size, last_accessed=it.last_used, last_modified=it.last_modified, repo_type=it.kind
    )
    theirs = compile_cache_filter(expression, _Refs({"main", "v1"}))
    assert compile_filter(expression)(it) is theirs(repo, None, time.time())  # type: ignore[arg-type]


class _Refs(dict):  # type: ignore[type-arg]
    def __init__(self, refs: set[str]) -> None:
        super().__init__()
        self._refs = frozenset(refs)

    def get(self, key: object, default: object = None) -> frozenset[str]:
        return self._refs


@pytest.mark.parametrize(
    "expression",
    ["", "   ", "quant=GPTQ", "quant=4-bit", "quant~gpt", 'quant="GPTQ 4-bit"', "format=safetensors", "family=LLAMA",
     "name~org/", "name=ORG/name", "id~hf:", "store=hf", "state=ok", "state!=damaged", "files=7", "files>6",
     "loads=gpt-qmodel", "loads~transf", "kind=model", "last-used>3mo", "last_used>3mo", "org llama", "GPTQ name 8b",
     '"org/name"', "type=model size>10GB org", "size==12GB", "accessed>3 mo", "size>11 GB llama", "root=/r"],
)  # fmt: skip
def test_what_passes(expression: str) -> None:
    assert compile_filter(expression)(item())


@pytest.mark.parametrize(
    "expression",
    ["quant=AWQ", "quant=GPT", "format=gguf", "family=llam", "name~xyz", "store!=hf", "state=damaged", "files>7",
     "org missing", "type=model size>13GB", '"org name"', "format!=safetensors", "problem=broken-link"],
)  # fmt: skip
def test_what_does_not_pass(expression: str) -> None:
    assert not compile_filter(expression)(item())


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("siez>3GB", "did you mean 'size'"),
        ("size>", "not finished"),
        ("size>1X", "write it like 10GB"),
        ("accessed>6q", "write it like 12h"),
        ("size>GB", "write it like 10GB"),
        ("type>model", "use type=model"),
        ("size~3", "contains"),
        ("state=damagd", "did you mean 'damaged'"),
        (">3GB", "size>10GB"),
        ("own>1GB", "once everything has been read"),
        ('name="unclosed', "not finished"),
    ],
)
def test_what_is_wrong_is_said(expression: str, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        compile_filter(expression)


def test_six_months_are_not_six_minutes() -> None:
    assert not compile_filter("accessed>6mo")(item(last_used=time.time() - 3600))


def test_unknown_times_never_pass_as_old() -> None:
    never = item(last_used=None, last_modified=None)
    assert not compile_filter("accessed>1d")(never)
    assert not compile_filter("modified<1d")(never)


def test_a_revision_has_its_own_size_and_refs() -> None:
    main, big = compile_filter("refs=main"), compile_filter("size>5GB")
    assert [main.revision(item(), r) for r in (MAIN, OLD)] == [True, False]
    assert [big.revision(item(), r) for r in (MAIN, OLD)] == [False, True]


def test_own_shared_and_frees_count_what_others_hold() -> None:
    root = Root("hf", "/r", 1, 2, "default")
    both = Blob("blobs/x", 1, 5, 4000, 4096, 1, 0.0)
    alone = Blob("models--a/blobs/y", 1, 6, 1000, 1024, 1, 0.0)
    a = item(id="hf:a", name="a", path="models--a", blobs=(alone,), links=(both,)).with_sizes()
    b = item(id="hf:b", name="b", path="models--b", links=(both,)).with_sizes()
    ledger = Scan((RootScan(root, (a, b)),)).ledger
    assert compile_filter("own=1000 shared=4000 frees=1024", ledger)(a)
    assert compile_filter("own=0 shared>=4000 frees=0", ledger)(b)
    assert compile_filter("allocated=5120")(a)


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_an_error_that_says_why(text: str) -> None:
    try:
        compile_filter(text)(item())
    except FilterError as e:
        assert str(e)


@given(st.sampled_from(KEYS), st.sampled_from(["", ">", "=", "~", ">=1", ">1", "=x"]))
def test_every_step_of_typing_is_a_filter_or_an_error(key: str, rest: str) -> None:
    text = key + rest
    for end in range(len(text) + 1):
        try:
            compile_filter(text[:end])
        except FilterError:
            continue


def test_what_is_outdated_is_known_once_asked() -> None:
    old, new = item(name="old"), item(name="new")
    test = compile_filter("state=outdated", outdated=lambda i: i is old)
    assert test(old) and not test(new)
    assert compile_filter("old state!=outdated", outdated=lambda i: i is new)(old)
    with pytest.raises(FilterError, match="once the Hub was asked: press N"):
        compile_filter("state=outdated", ask="press N")
    with pytest.raises(FilterError, match="does not fit"):
        compile_filter("state>outdated", outdated=lambda _: True)
    assert asks_upstream("size>1GB STATE=Outdated") and not asks_upstream("outdated state=ok")
