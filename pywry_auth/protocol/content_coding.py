"""The content codings of HTTP answers (RFC 9110 §8.4)."""

from __future__ import annotations

import zlib

# Some servers write the character encoding or the transfer encoding of mail into the header.
_UNCHANGED = frozenset(("", "identity", "none", "binary", "7bit", "8bit", "utf-8", "utf8", "us-ascii"))
_FORMATS = {
    "gzip": (zlib.MAX_WBITS + 16,),
    "x-gzip": (zlib.MAX_WBITS + 16,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),  # some servers leave out the zlib header
}


def decoded(body: bytes, header: str, largest: int) -> bytes:
    """Return a body without its content coding.

    No more than one byte beyond ``largest`` is decompressed, so that a few bytes cannot fill the memory.

    Args:
        body: The body as it was received.
        header: The value of ``Content-Encoding``; empty without one.
        largest: The number of bytes that the caller accepts. A result with one byte more is not complete.

    Raises:
        ValueError: The coding is unknown, there are several, or the body is damaged. The text quotes neither.
    """
    names = [name.strip().lower() for name in header.split(",")]
    codings = [name for name in names if name not in _UNCHANGED]
    if not codings or not body:  # an answer without a body may name a coding too
        return body
    if len(codings) > 1 or codings[0] not in _FORMATS:
        raise ValueError("the coding is not supported")
    for bits in _FORMATS[codings[0]]:
        found = _inflated(body, bits, largest)
        if found is not None:
            return found
    raise ValueError("the compressed data is damaged or incomplete")


def _inflated(body: bytes, bits: int, largest: int) -> bytes | None:
    """Return the data, or None if it is damaged, incomplete, or followed by other data."""
    stream = zlib.decompressobj(bits)
    try:
        found = stream.decompress(body, largest + 1)
    except zlib.error:
        return None
    complete = stream.eof and not stream.unused_data
    return found if complete or len(found) > largest else None
