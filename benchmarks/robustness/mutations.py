"""Random changes of bytes, texts, documents and model files; all chance comes from the generator that is passed."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import numpy as np

Random = np.random.Generator

NUMBERS = (
    "nan", "inf", "-inf", "1e308", "-1e308", "1e300", "1e-308", "1e20", "1e8", "-1", "0", "-0.0", "1e", "--5", "1,5",
    "0x10", "1_000", "99999999999999999999", "1000000", "١", "½", "",
)  # fmt: skip
"""What stands where a number should."""

WORDS = (
    "x", "True", "None", "null", "T", "F", "{}", "[]", "[[]]", '"', "'", "=", ":", "@", "\0", "\r", "\t", "\ufeff", "é",
    "🦀", "\u202e", "%s%n", "{0}", "../../etc/passwd", "<img src=x onerror=alert(1)>", "A" * 3000, "__class__", "a.b",
    "[" * 5000, "{a: " * 2000,
)  # fmt: skip
"""What stands where a word should."""

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 10**6, 10**12, 10**30, -(10**9), 0.5, -0.5, 1e-300, 1e8, 1e308, float("nan"),
    float("inf"), "", "x", "auto", "a.b", "a b", "\0", "/", "../x", [], [[]], {}, {"x": 1}, [1, 2], ["a"], "1e-3",
)  # fmt: skip
"""Values of odd types and sizes in documents."""

NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def pick(rng: Random, items: Any) -> Any:
    """One of some items."""
    return items[int(rng.integers(len(items)))]


def of_bytes(rng: Random, data: bytes) -> bytes:
    """Data with some bytes flipped, removed, doubled, inserted, or cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(len(changed) + 1))
        stop = min(len(changed), start + int(rng.integers(1, 65)))
        match int(rng.integers(6)):
            case 0 | 1 if start < len(changed):
                changed[start] ^= 1 << int(rng.integers(8))
            case 2:
                del changed[start:stop]
            case 3:
                changed[start:start] = changed[start:stop]
            case 4:
                changed[start:start] = rng.bytes(int(rng.integers(1, 9)))
            case _:
                del changed[start:]
    return bytes(changed)


def of_text(rng: Random, data: bytes) -> bytes:
    """Text with some lines, numbers or words changed."""
    for _ in range(int(rng.integers(1, 4))):
        data = pick(rng, (_lines, _number, _number, _number, _word, _word))(rng, data)
    return data


def _lines(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    first, second = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    match int(rng.integers(6)):
        case 0:
            del lines[first]
        case 1:
            lines.insert(first, lines[second])
        case 2:
            lines.insert(first, b"")
        case 3:
            lines[first], lines[second] = lines[second], lines[first]
        case 4:
            lines[first] = lines[first][: int(rng.integers(len(lines[first]) + 1))]
        case _:
            del lines[first:]
    return b"\n".join(lines)


def _number(rng: Random, data: bytes) -> bytes:
    found = list(NUMBER.finditer(data))
    if not found:
        return data
    place = found[int(rng.integers(len(found)))]
    return data[: place.start()] + str(pick(rng, NUMBERS)).encode() + data[place.end() :]


def _word(rng: Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"[^\s=\"]+", data))
    if not found:
        return str(pick(rng, WORDS)).encode()
    place = found[int(rng.integers(len(found)))]
    stop = place.end() if rng.random() < 0.7 else place.start()
    return data[: place.start()] + str(pick(rng, WORDS)).encode() + data[stop:]


def of_document(rng: Random, document: Any) -> Any:
    """Nested lists and dictionaries with some values, keys or levels changed; the original stays as it is."""
    document = json.loads(json.dumps(document))
    for _ in range(int(rng.integers(1, 3))):
        holders = [node for node in _nodes(document) if node]
        if not holders:
            break
        node = pick(rng, holders)
        key = pick(rng, list(node) if isinstance(node, dict) else list(range(len(node))))
        _change(rng, node, key)
    return document


def _nodes(document: Any) -> list[Any]:
    """All lists and dictionaries in a document."""
    if isinstance(document, dict):
        return [document, *(inner for value in document.values() for inner in _nodes(value))]
    if isinstance(document, list):
        return [document, *(inner for value in document for inner in _nodes(value))]
    return []


def _change(rng: Random, node: Any, key: Any) -> None:
    match int(rng.integers(8)):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[str(pick(rng, WORDS))] = node.pop(key)
        case 2 if isinstance(node, dict):
            node[str(pick(rng, WORDS))] = pick(rng, ODD)
        case 3:
            for _ in range(int(pick(rng, (1, 2, 60)))):
                node[key] = [node[key]]
        case 4 if isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] *= pick(rng, (-1, 2, 1.5, 1000, 0))
        case _:
            node[key] = pick(rng, ODD)


def of_safetensors(rng: Random, data: bytes, key: str, signed: bool) -> bytes:
    """A model file or checkpoint with its header, or the description of its arrays, changed.

    Args:
        rng: chance.
        data: the file.
        key: of its own header.
        signed: whether the checksum is made to fit again, as whoever wants to harm would do.
    """
    (length,) = struct.unpack("<Q", data[:8])
    described = json.loads(data[8 : 8 + length])
    if signed or rng.random() < 0.6:
        header = json.loads(described["__metadata__"][key])
        described["__metadata__"][key] = json.dumps(of_document(rng, header))
    else:
        described = of_document(rng, described)
    text = json.dumps(described).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
