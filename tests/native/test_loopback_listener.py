"""The configured ports are tried in order, and no others. [N8]"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.loopback_listener import first_free


def refusing(codes: dict[int, int]) -> Callable[[int], str]:
    """Return the ``bind`` of a machine on which these ports cause these errors."""

    def bind(port: int) -> str:
        if port in codes:
            raise OSError(codes[port], os.strerror(codes[port]))
        return f"bound {port}"

    return bind


@pytest.mark.parametrize("code", [errno.EADDRINUSE, errno.EACCES])
def test_a_port_in_use_or_reserved_is_skipped(code: int) -> None:
    assert first_free([8400, 8401, 8402], refusing({8400: code})) == "bound 8401"


def test_another_fault_of_the_machine_is_not_taken_for_a_port_in_use() -> None:
    with pytest.raises(AuthenticationError, match=os.strerror(errno.EMFILE)) as caught:
        first_free([8400, 8401], refusing({8400: errno.EMFILE}))
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_names_only_the_first_ports_of_a_long_range() -> None:
    ports = range(8400, 8500)
    with pytest.raises(AuthenticationError) as caught:
        first_free(ports, refusing(dict.fromkeys(ports, errno.EADDRINUSE)))
    assert "8409 …." in str(caught.value)
    assert "8410" not in str(caught.value)
