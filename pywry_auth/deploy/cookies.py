"""Signed random tokens in cookies.

A forged token costs no look-up. No store contains a token, only its digest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from itsdangerous import BadSignature, Signer

from pywry_auth.digests import digest_of

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

_HOST, _SECURE = "__Host-", "__Secure-"
_SIGNED = re.compile(r"[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{43}")  # 32 bytes each, in base64url


class TokenSigner:
    """Makes and reads the values of one kind of cookie, or of one parameter of a URL.

    Args:
        keys: The signing keys. The first key signs, and all keys verify.
        purpose: The kind of value. A value made for one kind is not valid for another.
        on_foreign: Called for a value that a signer with other keys may have made.
    """

    def __init__(
        self, keys: Sequence[str], purpose: str, on_foreign: Callable[[], None] = lambda: None
    ) -> None:
        self._on_foreign = on_foreign
        # itsdangerous signs with the last key of a list.
        self._signer = Signer(
            list(reversed(keys)),
            salt=f"pywry_auth.{purpose}",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def new(self) -> str:
        """Return a new random token of 256 bits, signed."""
        return self._signer.sign(secrets.token_urlsafe(32)).decode("ascii")

    def sign(self, text: str) -> str:
        """Return a text with its signature, for a URL or cookie."""
        return self._signer.sign(text).decode("ascii")

    def text_of(self, value: str) -> str | None:
        """Return the text of a value from :meth:`sign`; None if the signature is not valid."""
        try:
            return self._signer.unsign(value).decode("ascii") if value.isascii() else None
        except BadSignature:
            return None

    def digest(self, value: str) -> str | None:
        """Return the SHA-256 of a cookie's token, in hexadecimal.

        Args:
            value: The cookie's value.

        Returns:
            The digest, or None if the signature is not valid.
        """
        if not value.isascii():
            return None
        try:
            return digest_of(self._signer.unsign(value).decode("ascii"))
        except BadSignature:
            if looks_signed(value):
                self._on_foreign()
            return None


@dataclass(frozen=True)
class Cookie:
    """One kind of cookie: its name and its values.

    Args:
        name: As the browser knows it.
        signer: Makes and reads its values.
    """

    name: str
    signer: TokenSigner

    def host_only(self) -> Cookie:
        """Return this cookie under a ``__Host-`` name.

        Browsers accept such a name only from this host itself, over https (RFC 6265bis §4.1.3.2). Another
        host of the domain cannot set it.
        """
        return replace(self, name=_HOST + self.name.removeprefix(_HOST).removeprefix(_SECURE))

    def read(self, request: Request) -> str | None:
        """Return the digest of the request's only genuine cookie.

        An attacker who controls a neighbouring domain can add cookies of the same name. Values without a
        valid signature are ignored. If there are two genuine values, neither is trusted.
        """
        genuine = self.read_all(request)
        return genuine[0] if len(genuine) == 1 else None

    def read_all(self, request: Request) -> list[str]:
        """Return the digests of all genuine cookies of the request.

        A sign-out ends the sessions of all of them.
        """
        digests = (self.signer.digest(value) for name, value in _cookies(request) if name == self.name)
        return list(dict.fromkeys(digest for digest in digests if digest))

    def texts(self, request: Request) -> list[str]:
        """Return the signed texts of a request's genuine cookies."""
        found = (self.signer.text_of(value) for name, value in _cookies(request) if name == self.name)
        return [text for text in found if text is not None]

    def family(self, request: Request) -> dict[str, tuple[Cookie, str]]:
        """Return genuine cookies with this prefix, and their values.

        The keys are the digests of the tokens.
        """
        return {
            digest: (replace(self, name=name), value)
            for name, value in _cookies(request)
            if name.startswith(self.name) and (digest := self.signer.digest(value))
        }

    def family_values(self, request: Request) -> list[str]:
        """Return the values of all cookies with this prefix, genuine or not."""
        return [value for name, value in _cookies(request) if name.startswith(self.name)]

    def new_member(self) -> tuple[str, Cookie, str]:
        """Return digest, cookie and value of a new token.

        The cookie has a name of its own.
        """
        value = self.signer.new()
        digest = self.signer.digest(value) or ""
        return digest, replace(self, name=f"{self.name}_{digest[:8]}"), value

    def set(self, response: Response, value: str, max_age: float, secure: bool) -> None:
        """Set the cookie for this host only, hidden from scripts.

        Args:
            response: The response that sets the cookie.
            value: The cookie's value.
            max_age: Its lifetime in seconds.
            secure: Whether browsers send it over https only.
        """
        response.set_cookie(
            self.name,
            value,
            max_age=int(max_age),
            path="/",
            secure=secure or self._always_secure,
            httponly=True,
            samesite="Lax",
        )

    def clear(self, response: Response, secure: bool) -> None:
        """Delete the cookie."""
        response.delete_cookie(
            self.name, path="/", secure=secure or self._always_secure, httponly=True, samesite="Lax"
        )

    @property
    def _always_secure(self) -> bool:
        # RFC 6265bis §4.1.3: browsers refuse these names without Secure.
        return self.name.startswith((_HOST, _SECURE))


def looks_signed(value: str) -> bool:
    """Return whether a value has the form of a signed token, genuine or not."""
    return _SIGNED.fullmatch(value) is not None


def _cookies(request: Request) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a request's cookies, as the browser sent them.

    ``request.cookies`` of some Werkzeug versions removes characters around a name. A neighbouring host could
    then set a cookie that browsers do not know as ``__Host-``, and that is read as one.
    """
    for pair in request.headers.get("Cookie", "").split(";"):
        name, separator, value = pair.strip(" \t").partition("=")
        if separator:
            yield name, value
