"""The outer form of stored records, which tells a clear record from an encrypted one."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress

LARGEST_RECORD = 8 << 20
"""Bytes of JSON. A larger record is neither written nor read, however small its compressed form is."""

COMMON = (
    b'"zoneinfo":"","locale":"en","groups":["hd":"given_name":"family_name":"updated_at":"phone_number":'
    b'"nickname":"login":"avatar_url":"https://lh3.googleusercontent.com/a/Chrome on iPhoneEdge on Windows'
    b'Safari on macOSChrome on AndroidFirefox on LinuxChrome on Windows","acr":"","amr":["mfa","otp","pwd"]},'
    b'"idle_ttl":1800.0,"used_at":"permissions":{"provider":"google","microsoft","github",{"v":1,"user_id":"",'
    b'"roles":["admin","editor","viewer"],"created_at":17,"expires_at":17,"metadata":{"user_info":{"sub":"",'
    b'"name":"","preferred_username":"","email":"@gmail.com","email_verified":true,"picture":"https://"}},'
    b'"ttl":86400.0,"issuer":"https://","client_id":"","grant":{"id":"","at":17,"provider":"oidc","sub":"",'
    b'"sid":"","auth_time":17,"amr":["pwd"]},"browser":"","network":"'
)
"""Text that many records contain (RFC 1950 §2.2, FDICT).

It makes them about a third smaller. Stored records depend on each byte, so that it must never change.
"""

_COMMON_ID = zlib.adler32(COMMON).to_bytes(4, "big")  # stands after the two bytes of the zlib header
_WITHOUT_COMMON = b"\x78\x9c"  # the zlib header of records of earlier versions
_BEGIN = b'{"v":'
_VERSION = re.compile(rb'\{"v":([0-9]{1,9})[,}]')
_LOOKED_AT = 256  # bytes
_SHORTEST_CIPHERTEXT = 32  # bytes: the key's name, the nonce and the tag
_FAILURE = re.compile(rb"[0-9a-f]{16,80} [ -~]{0,200}")  # the text of a failure, for callers that wait


def compressed(data: bytes) -> bytes:
    """Return a record in its compressed form.

    Args:
        data: The record as JSON.
    """
    compressor = zlib.compressobj(zdict=COMMON)
    return compressor.compress(data) + compressor.flush()


def decompressed(data: bytes) -> bytes:
    """Return the content of a compressed record.

    Records of earlier versions were compressed without the common text.

    Raises:
        ValueError: The record is too large, or not complete.
        zlib.error: It is damaged, or not compressed.
    """
    decompressor = zlib.decompressobj(zdict=COMMON)
    content = decompressor.decompress(data, LARGEST_RECORD)
    if not decompressor.eof:
        raise ValueError("the record is too large, or not complete")
    return content


def is_clear_record(data: bytes) -> bool:
    """Return whether a value is a whole record of this package, without encryption.

    Ciphertext never satisfies this: its random bytes are no JSON in ASCII, and have no zlib checksum.

    Args:
        data: The stored value.
    """
    if data.isascii():
        return data.startswith(_BEGIN) and data.endswith(b"}")
    if data[2:6] != _COMMON_ID and data[:2] != _WITHOUT_COMMON:
        return False
    with suppress(ValueError, zlib.error):
        return decompressed(data).startswith(_BEGIN)
    return False


def version_of(data: bytes) -> int:
    """Return the version of a record without encryption; 0 if it is not known.

    Args:
        data: The stored value.
    """
    with suppress(ValueError, zlib.error):
        found = _VERSION.match(data if data.startswith(_BEGIN) else decompressed(data))
        return int(found[1]) if found else 0
    return 0


def is_clear(data: bytes) -> bool:
    """Return whether a value is one of this package, without encryption.

    Apart from records, these are short notes, which have no content of their own, and texts of failures.

    Args:
        data: The stored value.
    """
    is_note = data.isascii() and len(data) < _SHORTEST_CIPHERTEXT
    return is_note or _FAILURE.fullmatch(data) is not None or is_clear_record(data)


def may_be_encrypted(data: bytes) -> bool:
    """Return whether a value can be ciphertext, and not a damaged record.

    Args:
        data: The stored value.
    """
    if len(data) < _SHORTEST_CIPHERTEXT or _COMMON_ID in data[:8]:
        return False
    begin = data[:_LOOKED_AT]
    return sum(byte > 127 for byte in begin) > len(begin) / 8  # about a half in ciphertext
