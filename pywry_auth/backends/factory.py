"""Opens the backend that storage options describe.

The package of a technology is imported only when its backend is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module

from pywry_auth.backend_names import BUILT_IN, installed_backends, refused_backend
from pywry_auth.backends.base import Backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.plain_text import require_plain


@cache
def open_backend(options: StorageOptions) -> Backend:
    """Return the backend of the options.

    Equal options return the same instance. A built-in backend is opened by the function ``open_backend`` in
    the module of the same name. A backend of another package is opened by its entry point.

    Args:
        options: The place where records are kept.

    Raises:
        ValueError: There is no such backend; the text lists those that exist. Or a URL or key is malformed.
        ImportError: The backend needs a package that is missing; the text names the command for it.
    """
    if options.encryption_keys:
        inner = open_backend(replace(options, encryption_keys=(), read_plaintext=False))
        return encrypted(inner, options.encryption_keys, options.site, options.read_plaintext)
    if refusal := refused_backend(options.backend):
        raise ValueError(f"unknown backend {options.backend!r}; {refusal}")
    if options.backend in BUILT_IN:
        opener = import_module(f"pywry_auth.backends.{options.backend}").open_backend
    else:
        opener = installed_backends()[options.backend].load()
    backend: Backend = opener(options)
    return backend


def encrypted(backend: Backend, keys: Sequence[str], site: str = "", read_plaintext: bool = False) -> Backend:
    """Wrap a backend in encryption if there are keys.

    Args:
        backend: The backend that keeps the ciphertext.
        keys: Base64url of 32 bytes each: the first encrypts, all decrypt.
        site: The site to which the records are bound.
        read_plaintext: Whether records without encryption are read too.

    Returns:
        The encrypting backend, or ``backend`` itself without keys.

    Raises:
        AuthenticationError: A key is no text, or was copied with blanks.
        ValueError: A key is malformed; the text does not repeat it.
    """
    if not keys:
        return backend
    for key in keys:
        require_plain(encryption_keys=key)
    from pywry_auth.backends.encrypted import EncryptedBackend

    return EncryptedBackend(backend, keys, site=site, read_plaintext=read_plaintext)
