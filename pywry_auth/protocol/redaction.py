"""The text of a provider, without the secrets that the provider received.

Some servers quote the code, the token or the secret that they refuse. They may encode it, change its case,
break it into lines, or shorten it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Collection, Iterable, Iterator
from urllib.parse import parse_qsl, unquote, unquote_plus

from pywry_auth.error_codes import ErrorCode
from pywry_auth.strict_json import read_json

_HIDDEN = "…"
_SHORTEST_SECRET = 4  # characters; a shorter one would hide common words
_PART = 8  # characters of a secret that a text must not show
_LONGEST_TEXT = 4096
_MOST_WORK = 20_000  # characters of a text and its decodings

_PUBLIC = frozenset(
    {"grant_type", "redirect_uri", "client_id", "client_assertion_type", "token_type_hint", "scope"}
    | {"audience", "resource", "subject_token_type", "requested_token_type", "actor_token_type"}
)
"""The parameters of requests whose values are not secret. All others are."""

# RFC 6749 appendix A.7. Programs print codes, so a terminal must not obey them; a blank begins and ends none.
_CODE = re.compile(r"[!#-\[\]-~]([ !#-\[\]-~]{0,198}[!#-\[\]-~])?")
_CHARACTER = re.compile(
    # Only one place of a run of backslashes is tried, so the time is linear.
    r"(?<!\\)\\+(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|[nrtbf]|([/\"'])|([0-3][0-7]{2}))"
    r"|%u([0-9a-fA-F]{4})|=([0-9a-fA-F]{2})"
)
_SOFT_BREAK = re.compile("=\r?\n")  # of quoted-printable text
_BASE64 = re.compile(r"[A-Za-z0-9+/]{10,}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_HEX = re.compile(r"(?:(?:0x)?[0-9a-fA-F]{2}[:,;-]?){8,}")


def provider_text(text: str, secrets: Collection[str]) -> str:
    """Return a provider's text for messages, logs and pages.

    Args:
        text: The complete text, because a part of an encoded secret could not be recognized.
        secrets: The values that the provider received from this client.

    Returns:
        The text, with a mark instead of each secret. It is empty if it may show a secret in another form.
    """
    long = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
    cleaned = _without(text, long)
    return "" if reveals(cleaned, long) else _without(cleaned, secrets)


def provider_code(code: str, secrets: Collection[str]) -> str:
    """Return a provider's error code.

    Args:
        code: The code.
        secrets: The values that the provider received from this client.

    Returns:
        The code, or ``invalid_response`` if it may show a secret, is longer than 200 characters, or has
        characters that no code has (RFC 6749 appendix A.7).
    """
    return code if _CODE.fullmatch(code) and not reveals(code, secrets) else ErrorCode.INVALID_RESPONSE


def reveals(text: str, secrets: Iterable[str], part: int = _PART) -> bool:
    """Return whether a text may show a secret or a part of it, in any usual encoding.

    In doubt, for example for a very long text, this is True.

    Args:
        text: The text.
        secrets: The secrets; one with fewer than four characters is ignored.
        part: Characters of a secret that the text must not show. A shorter secret must be there as a whole.
    """
    parts = _parts({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, part)
    if not parts or not text:
        return False
    if len(text) > _LONGEST_TEXT:
        return True
    work = 0
    for view in _views(text):
        work += len(view)
        if work > _MOST_WORK or _shows(view, parts):
            return True
    return False


def passwords_in(urls: Iterable[str]) -> Iterator[str]:
    """Yield the passwords in URLs, as they are written and decoded."""
    for url in urls:
        user = url.rpartition("@")[0].rpartition("//")[2]
        password = user.partition(":")[2]
        yield from {password, unquote(password)} - {""}


def secrets_sent(authorization: str, data: str | None) -> Iterator[str]:
    """Yield the secrets in a request.

    The signature of a signed token is one as bytes, too: with it, the token can be completed again.

    Args:
        authorization: The value of the header ``Authorization``; empty for none.
        data: The body, a form or a JSON object; None for none.
    """
    scheme, _, credentials = authorization.partition(" ")
    if credentials:
        yield from {credentials, _signature_in_hex(credentials)} - {""}
    if scheme.lower() == "basic":
        password = _decoded_base64(credentials).partition(":")[2]
        yield from {password, unquote_plus(password)}
    for name, value in _members(data or ""):
        if name not in _PUBLIC:
            yield from {value, _signature_in_hex(value)} - {""}


def _signature_in_hex(token: str) -> str:
    """Return the signature of a token in compact form (RFC 7515 §7.1); empty for another text."""
    parts = token.split(".")
    if len(parts) != 3 or not all(map(_BASE64URL.fullmatch, parts)):
        return ""
    signature = parts[2]
    return urlsafe_b64decode(signature[: len(signature) - (len(signature) % 4 == 1)] + "===").hex()


def _members(data: str) -> Iterable[tuple[str, str]]:
    if not data.startswith("{"):
        return parse_qsl(data)
    return [(name, value) for name, value in read_json(data).items() if isinstance(value, str)]


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _parts(secrets: Iterable[str], part: int) -> dict[int, set[str]]:
    """Return the parts of the secrets that a text must not contain, by their length."""
    parts: dict[int, set[str]] = {}
    for secret in secrets:
        for form in map(_folded, (secret, *_in_base64(secret))):
            length = min(part, len(form))
            if length:
                parts.setdefault(length, set()).update(_windows(form, length))
    return parts


def _in_base64(secret: str) -> Iterator[str]:
    """Yield a secret in base64 as it stands inside a longer text, at each of the three alignments.

    The decoder finds these too, unless the text was changed to another case.
    """
    for before in range(3):
        encoded = b64encode(b"\0" * before + secret.encode("utf-8", "surrogatepass")).decode("ascii")
        form = encoded.rstrip("=")[(before * 8 + 5) // 6 : -1]
        if len(form) >= _PART:
            yield form


def _shows(view: str, parts: dict[int, set[str]]) -> bool:
    folded = _folded(view)
    return any(not known.isdisjoint(_windows(folded, length)) for length, known in parts.items())


def _windows(text: str, length: int) -> Iterator[str]:
    return (text[start : start + length] for start in range(len(text) - length + 1))


def _folded(text: str) -> str:
    """Return a text without differences of case, of base64's alphabets, and of invisible characters."""
    return _joined(unicodedata.normalize("NFKC", text)).casefold().translate({0x2D: "+", 0x5F: "/"})


def _joined(text: str) -> str:
    """Return a text without blanks, line breaks, control and zero-width characters."""
    return "".join(letter for letter in text if unicodedata.category(letter)[0] not in "ZC")


def _views(text: str) -> Iterator[str]:
    """Yield a text and its decodings, the decodings of these, and so on."""
    seen, waiting = {text}, [text]
    while waiting:
        view = waiting.pop(0)
        yield view
        found = dict.fromkeys(decoded for decoded in _decodings(view) if decoded not in seen)
        seen.update(found)
        waiting += found


def _decodings(view: str) -> Iterator[str]:
    yield unquote(view, "utf-8", "replace")
    yield html.unescape(view)
    yield _CHARACTER.sub(_character, view)
    yield re.sub("<[^<>]*>", "", view)
    yield view.replace("+", "")
    yield _SOFT_BREAK.sub("", view)
    joined = _joined(view)
    runs = _BASE64.findall(joined.replace("-", "+").replace("_", "/"))
    for start in range(4):
        yield "|".join(_decoded_base64(run[start:]) for run in runs)
    digits = [re.sub("0x|[:,;-]", "", run) for run in _HEX.findall(joined)]
    yield "|".join(digits)
    for start in range(2):
        yield "|".join(_decoded_hex(run[start:]) for run in digits)


def _character(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3] or match[4] or match[7] or match[8]
    if not digits and not match[6]:
        return match[5] or " "
    number = int(digits, 16) if digits else int(match[6], 8)
    return chr(number) if number <= 0x10FFFF else ""


def _decoded_base64(run: str) -> str:
    try:
        return b64decode(run[: len(run) // 4 * 4]).decode("utf-8", "replace")
    except ValueError:
        return ""


def _decoded_hex(run: str) -> str:
    return bytes.fromhex(run[: len(run) // 2 * 2]).decode("utf-8", "replace")
