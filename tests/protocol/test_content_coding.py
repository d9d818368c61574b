"""Content codings are removed within the bound, and everything else is refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from pywry_auth.protocol.content_coding import decoded

TEXT = b'{"sub": "alice"}' * 20
GZIP = gzip.compress(TEXT, mtime=0)  # the names of the tests contain it, so it must not change
RAW = zlib.compress(TEXT)[2:-4]
LARGEST = 1 << 20


@pytest.mark.parametrize(
    "header",
    ["", "identity", "IDENTITY", "none", "binary", "utf-8", "UTF8", "identity, identity", " , ", "7bit"],
)
def test_a_harmless_header_leaves_the_body_unchanged(header: str) -> None:
    assert decoded(TEXT, header, LARGEST) is TEXT


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("gzip", GZIP),
        ("GZip", GZIP),
        ("x-gzip", GZIP),
        ("identity, gzip", GZIP),
        ("gzip,", GZIP),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", RAW),
    ],
)
def test_a_compressed_body_is_read(header: str, body: bytes) -> None:
    """With ``deflate``, some servers leave out the zlib header (RFC 9110 §8.4.1.2)."""
    assert decoded(body, header, LARGEST) == TEXT
    assert decoded(body, header, len(TEXT)) == TEXT
    assert len(decoded(body, header, len(TEXT) - 1)) == len(TEXT), "one byte more shows that it is too large"
    assert decoded(b"", header, LARGEST) == b""


@pytest.mark.parametrize("header", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "canary"])
def test_unknown_and_several_codings_are_refused(header: str) -> None:
    with pytest.raises(ValueError, match="not supported") as caught:
        decoded(gzip.compress(GZIP, mtime=0), header, LARGEST)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        GZIP[:-1],
        GZIP[:20],
        GZIP[:-8] + bytes(8),
        GZIP + b"x",
        GZIP * 2,
        zlib.compress(TEXT)[:-1],
        zlib.compress(TEXT)[:-4] + bytes(4),
        RAW[:-1],
        TEXT,
        b"\x1f",
        bytes(100),
    ],
)
@pytest.mark.parametrize("header", ["gzip", "deflate"])
def test_damaged_and_incomplete_data_is_refused(header: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="damaged or incomplete") as caught:
        decoded(body, header, LARGEST)
    assert "alice" not in repr(caught.value.__context__)


@pytest.mark.parametrize(("header", "bits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_a_bomb_is_not_decompressed_beyond_the_bound(header: str, bits: int) -> None:
    """The memory stays within the bound, although the data has 8 MiB. [T41]"""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(8)) + packer.flush()
    tracemalloc.start()
    try:
        assert len(decoded(bomb, header, LARGEST)) == LARGEST + 1
        assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
    finally:
        tracemalloc.stop()
