# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""What can happen to a file of a model: each damage takes its content and gives another, or `None` for no file."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[bytes], bytes | None]

_LENGTH = 8  # a safetensors file begins with the length of its header
WRONG_VALUES = ("a text", -1, 0, 1.5, True, None, [], ["a"], {}, 10**20, 1e300)


def damages(file: Path, seed: int = 0) -> Iterator[tuple[str, Damage]]:
    """All damages of a file, by name."""
    yield "missing", lambda content: None
    yield "empty", lambda content: b""
    yield "zeros", lambda content: bytes(len(content))
    yield "half", lambda content: content[: len(content) // 2]
    yield "last bytes missing", lambda content: content.rstrip()[:-2]
    yield "a web page", lambda content: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "a pickle", lambda content: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94."
    if file.suffix == ".safetensors":
        yield from _of_weights(file, seed)
    elif file.suffix == ".json":
        yield from _of_json(file)


def _of_weights(file: Path, seed: int) -> Iterator[tuple[str, Damage]]:
    for length in (0, 1, 2**31, 2**40, 2**63, 2**64 - 1):
        yield f"header length {length}", lambda content, n=length: struct.pack("<Q", n) + content[_LENGTH:]
    yield "header length of the file", lambda content: struct.pack("<Q", len(content)) + content[_LENGTH:]
    yield "more at the end", lambda content: content + bytes(64)
    yield "header of another type", lambda content: _with_header(content, b"[]")
    yield "header without weights", lambda content: _with_header(content, b"{}")
    chance = random.Random(seed)
    size = struct.unpack("<Q", file.read_bytes()[:_LENGTH])[0]
    for place in (chance.randrange(_LENGTH + size) for _ in range(12)):
        bit = 1 << chance.randrange(8)
        yield f"bit {bit} of byte {place} flipped", lambda content, p=place, b=bit: _flipped(content, p, b)


def _with_header(content: bytes, header: bytes) -> bytes:
    size = struct.unpack("<Q", content[:_LENGTH])[0]
    return struct.pack("<Q", len(header)) + header + content[_LENGTH + size :]


def _flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def _of_json(file: Path) -> Iterator[tuple[str, Damage]]:
    for text in ("[]", "null", '"a text"', "5", "{}", "NaN", "[" * 100_000, '{"a":' * 100_000, "9" * 5_000):
        yield f"JSON {text[:20]}", lambda content, t=text: t.encode()
    yield "not UTF-8", lambda content: content.replace(b'"', b'"\xff', 1)
    yield "UTF-16", lambda content: content.decode().encode("utf-16")
    parsed = json.loads(file.read_text(encoding="utf-8"))
    for key, value in parsed.items() if isinstance(parsed, dict) else ():
        for wrong in WRONG_VALUES:
            if _is_wrong(wrong, value, file):
                yield f"{key}: {wrong!r}", lambda _, k=key, w=wrong: json.dumps({**parsed, k: w}).encode()
    for key, part in parsed.items() if isinstance(parsed, dict) and file.name == "config.json" else ():
        for inner, value in part.items() if isinstance(part, dict) else ():
            for wrong in WRONG_VALUES:
                if _is_wrong(wrong, value, file):
                    changed = {**parsed, key: {**part, inner: wrong}}
                    yield f"{key}.{inner}: {wrong!r}", lambda _, c=changed: json.dumps(c).encode()
    for place in range(len(parsed)) if isinstance(parsed, list) else ():
        for wrong in WRONG_VALUES:
            changed = [*parsed[:place], wrong, *parsed[place + 1 :]]
            yield f"[{place}]: {wrong!r}", lambda _, c=changed: json.dumps(c).encode()


def _is_wrong(wrong: Any, value: Any, file: Path) -> bool:
    """
    Whether it is of another type.

    Not for others' formats, which we only pass on: `null` is a value for each part of a tokenizer, and Python and
    transformers take `true` for 1.
    """
    if (wrong is None and file.name.startswith("tokenizer")) or (wrong is True and _kind(value) == "number"):
        return False
    return _kind(wrong) != _kind(value)


def _kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
