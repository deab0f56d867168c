"""The bytes of one chunk of an array: a frame of Blosc, then its CRC-32C.

The bytes of the numbers are sorted by significance (Blosc's byte shuffle), and zstd compresses each
of these planes by itself: the exponents shrink to half, the lower bits hardly. Blosc calls this its
split mode "always". The header of a frame says how it was made, so that zarr and tensorstore read it
like any other. Writers take that mode from a variable of the whole process, if at all, so the frame is
put together here (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.storage.files import crc32c

_LEVEL, _LEVEL_OF_EXPONENTS = 1, 3
"""Of zstd. Only the plane of sign and exponent is worth the search: 0.013 bits of a float16 weight."""
_FORMAT, _ZSTD_FORMAT, _SHUFFLED, _NOT_SPLIT, _ZSTD = 2, 1, 0x01, 0x10, 4 << 5
_LEAST_SPLIT = 128
"""Numbers of a chunk from which on readers expect a part for each of their bytes."""
_ABOVE_CHANCE = 1.5
_BEGINNING = 20
"""Bytes of the header and of the place of the only block."""


def blosc(kind: np.dtype[Any]) -> dict[str, Any]:
    """Return the configuration of the codec blosc in zarr.json for numbers of a type."""
    return {
        "cname": "zstd", "clevel": 1, "shuffle": "shuffle" if kind.itemsize > 1 else "noshuffle",
        "typesize": kind.itemsize, "blocksize": 0,
    }  # fmt: skip


def as_before(document: Any) -> Any:
    """Return zarr.json, or a part of it, as earlier versions described arrays of more than a byte a number."""
    if isinstance(document, list):
        return [as_before(x) for x in document]
    if not isinstance(document, dict):
        return document
    if document.get("cname") == "zstd" and document.get("shuffle") == "shuffle":
        return document | {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}
    return {key: as_before(value) for key, value in document.items()}


def encode(numbers: npt.NDArray[Any]) -> bytes:
    """Encode a chunk: (cells or tokens,) of the type on disk, contiguous."""
    bits = numbers.view(f"u{numbers.dtype.itemsize}")  # the bits tell 0 from -0
    if not bits[-1] and not bits.any():
        return _zeros(numbers.size, bits.dtype.str)
    return _sealed(numbers)


@lru_cache(maxsize=8)
def _zeros(size: int, kind: str) -> bytes:
    """Encode a chunk of zeros, as there are many behind the tokens of a block."""
    return _sealed(np.zeros(size, kind))


def _sealed(numbers: npt.NDArray[Any]) -> bytes:
    frame = _frame(numbers)
    return frame + crc32c(frame).to_bytes(4, "little")


def _frame(numbers: npt.NDArray[Any]) -> bytes:
    """Compress a chunk to a frame of one block, with one part for each byte of a number."""
    size, parts = numbers.dtype.itemsize, []
    bits = numbers.view(f"u{size}")
    planes = np.empty((size, numbers.size), np.uint8)
    for byte, plane in enumerate(planes):
        np.copyto(plane, bits >> (8 * byte) if byte else bits, casting="unsafe")
    split = numbers.size >= _LEAST_SPLIT
    if not split:
        planes = planes.reshape(1, -1)
    for byte, plane in enumerate(planes, 1):
        exponents = byte == size > 1
        level = _LEVEL_OF_EXPONENTS if exponents else _LEVEL
        part = b""
        if exponents or size == 1 or _repeats(plane):
            part = _zstd(level).compress(plane, asbytes=True)
        if not part or len(part) >= plane.size:  # a part of the size of its plane is the plane
            part = plane.tobytes()
        parts += [len(part).to_bytes(4, "little"), part]
    whole = _BEGINNING + sum(map(len, parts))
    flags = _ZSTD | (_SHUFFLED if size > 1 else 0) | (0 if split else _NOT_SPLIT)
    sizes = numbers.nbytes, numbers.nbytes, whole, _BEGINNING
    return b"".join([struct.pack("<4B4I", _FORMAT, _ZSTD_FORMAT, flags, size, *sizes), *parts])


def _repeats(plane: npt.NDArray[np.uint8]) -> bool:
    """Return True if zeros or equal neighbors are more frequent than among random bytes.

    Lower bytes of weights are random but for zeros and constant maps; zstd needs four times as long to see it.
    """
    chance = _ABOVE_CHANCE * plane.size / 256
    if plane.size - np.count_nonzero(plane) > chance:
        return True
    return bool(np.count_nonzero(plane[1:] == plane[:-1]) > chance)


@lru_cache(maxsize=2)
def _zstd(level: int) -> Any:
    """Return the compressor of a level, which any number of threads may share."""
    from pyarrow import Codec  # 30 ms, which a reader of weights does not need

    return Codec("zstd", compression_level=level)
