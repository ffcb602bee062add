"""Ways to damage a file."""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

FIELDS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
"""Values of length fields that programs stumble over; -1 is the last of each width."""

NUMBERS = (b"0", b"-1", b"1", b"2", b"65536", b"1000000", b"1e9", b"1000000000", b"2147483647", b"9223372036854775807")
NUMBERS += (b"1e20", b"1e-300", b"1e400", b"nan", b"NaN", b"-Infinity", b"", b"1" * 401, b"0.5", b"'30'", b"[1]")
"""Numbers in text."""

TOKENS = (b"null", b"true", b'"text"', b"NaN", b"1e999", b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000, b'"', b"\\")
TOKENS += (b"../x", b"/dev/zero", b"\x00", b"\xff\xfe", b"%s%n", b"=1+1", b"\r\n", b"-" * 300)
"""Pieces of text."""

Change = Callable[[bytes], bytes]


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """`data` after one to three changes; some copy pieces of `other`, another file of the same format.

    Half of the changes of a packed file (gzip, ZIP, PNG) are made to its content, and the check sums are mended.
    """

    def change(content: bytes) -> bytes:
        for _ in range(rng.integers(1, 4)):
            content = _WAYS[rng.integers(len(_WAYS))](content, other, rng)
        return content

    if rng.random() < 0.5:
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(change(gzip.decompress(data)), 1)
        if data[:4] == b"PK\x03\x04":
            return _inside_zip(data, change, rng)
        if data[:4] == b"\x89PNG":
            return _inside_png(data, change, rng)
    return change(data)


def _place(size: int, rng: np.random.Generator) -> int:
    """A position, often in the header or the trailer."""
    drawn = rng.random()
    if drawn < 0.45:
        return int(rng.integers(max(1, min(size, 1024))))
    if drawn < 0.6:
        return size - 1 - int(rng.integers(max(1, min(size, 1024)))) if size else 0
    return int(rng.integers(max(1, size)))


def _flip(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _k in range(rng.integers(1, 9) if changed else 0):
        changed[_place(len(changed), rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(len(data), rng)]


def _field(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    width = int(rng.choice([1, 2, 4, 8]))
    value = int(FIELDS[rng.integers(len(FIELDS))]) if rng.random() < 0.8 else int(rng.integers(2**62))
    value = 2 ** (8 * width) - 1 if rng.random() < 0.1 else value % 2 ** (8 * width)
    at = _place(len(data), rng)
    return data[:at] + value.to_bytes(width, "little" if rng.random() < 0.6 else "big") + data[at + width :]


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at, start, length = _place(len(data), rng), _place(len(other), rng), int(rng.integers(1, 257))
    return data[:at] + other[start : start + length] + data[at + int(rng.integers(0, 2)) * length :]


def _cut(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    at, length = _place(len(data), rng), int(rng.integers(1, 65))
    return data[:at] + data[at + length :]


def _repeat(data: bytes, _: bytes, rng: np.random.Generator) -> bytes:
    at, length, times = _place(len(data), rng), int(rng.integers(1, 65)), int(rng.integers(1, 1000))
    return data[:at] + data[at : at + length] * times + data[at:]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", data[:65536]))
    if not found:
        return _field(data, other, rng)
    token = found[rng.integers(len(found))]
    return data[: token.start()] + NUMBERS[rng.integers(len(NUMBERS))] + data[token.end() :]


def _word(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[A-Za-z_]{2,}", data[:65536]))
    if not found:
        return _flip(data, other, rng)
    token = found[rng.integers(len(found))]
    put = TOKENS[rng.integers(len(TOKENS))] if rng.random() < 0.5 else found[rng.integers(len(found))].group()
    return data[: token.start()] + put + data[token.end() :]


_WAYS = (_flip, _flip, _truncate, _field, _field, _field, _splice, _cut, _repeat, _number, _number, _word)


def _inside_zip(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    hit = sorted(members)[rng.integers(len(members))]
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, change(content) if name == hit else content)
    return into.getvalue()


def _inside_png(data: bytes, change: Change, rng: np.random.Generator) -> bytes:
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    hit = rng.integers(len(chunks))
    parts = [data[:8]]
    for index, (kind, content) in enumerate(chunks):
        if index == hit and kind == b"IDAT" and rng.random() < 0.5:
            content = zlib.compress(change(zlib.decompress(content)))
        elif index == hit:
            content = change(content)
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        parts += [len(content).to_bytes(4, "big"), kind, content, check]
    return b"".join(parts)
