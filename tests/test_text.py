"""The loader of text files: limits come first, and every failure is one sentence."""

import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.memory import require_memory, total_memory
from nuclear_diffusion.text import decode_json, depth, read_json, read_lines


class Numbers(msgspec.Struct):
    """A file with two numbers."""

    a: float
    b: int = 0


def nesting(value) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(nesting, inner), default=0)
    return 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\ä'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner, max_size=3),
)


@given(values)
def test_depth_is_that_of_the_value(value):
    assert depth(json.dumps(value).encode()) == nesting(value)
    assert depth(json.dumps(value, ensure_ascii=False, indent=1).encode()) == nesting(value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        '{"a": 1, "c": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "1" * 401 + "}",
        '{"a": 1, "b": ' + "1" * 5000 + "}",
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": null}',
        '{"a": ["1"]}',
        "[]",
        "",
        "\ud800",
        '{"a": 1} x',
        "\x00",
    ],
)
def test_anything_else_is_one_sentence(text, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    for nonfinite in (False, True):
        if nonfinite and ("NaN" in text or "e999" in text):
            continue
        with pytest.raises(InputError, match="is not a file of numbers") as caught:
            read_json(path, Numbers, "a file of numbers", nonfinite=nonfinite)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400 + len(str(path))


def test_what_fits_is_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": 1.5, "b": 2, "other": [[1]]}')
    assert read_json(path, Numbers, "a file of numbers") == Numbers(1.5, 2)
    assert str(decode_json('{"a": NaN}', Numbers, "x", "y", nonfinite=True).a) == "nan"


def test_pipes_folders_large_and_missing_files_are_refused(tmp_path):
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)  # opening it would wait for ever
    with large.open("wb") as file:
        file.truncate(1 << 40)
    for path, word in ((pipe, "pipe"), (large, "bytes"), (tmp_path, "folder"), (tmp_path / "none", "no such file")):
        with pytest.raises(InputError, match=word):
            read_json(path, Numbers, "a file of numbers")
        with pytest.raises(InputError, match=word):
            read_lines(path, "a list")
    (tmp_path / "list").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_lines(tmp_path / "list", "a list")


def test_memory_is_refused_before_it_is_used():
    assert 1 << 28 < total_memory() < 1 << 50
    require_memory(1e6, "This", "do less")
    with pytest.raises(InputError, match=r"This needs at least 1,000,000 GB of memory.*: do less"):
        require_memory(1e15, "This", "do less")
