"""The configured ports are tried in order, and no others. [N8]"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence

import pytest

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.loopback_listener import first_free, listen_on


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


@pytest.mark.parametrize(
    ("ports", "named"),
    [
        ([8400], ": 8400. "),
        ([8400, 8401, 8500], ": 8400-8401, 8500. "),
        ([8500, 8400], ": 8500, 8400. "),
        (range(8400, 8500), ": 8400-8499. "),
        (range(1, 9000, 2), ", 17, 19 …. "),
    ],
)
def test_an_error_names_the_ports_briefly(ports: Sequence[int], named: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        first_free(ports, refusing(dict.fromkeys(ports, errno.EADDRINUSE)))
    assert named in str(caught.value)


BOTH = ("127.0.0.1", "::1")


def test_both_addresses_get_the_same_port() -> None:
    """A browser may try either address of localhost first. [N9]"""
    listeners = listen_on(BOTH, 0)
    try:
        assert [listener.getsockname()[0] for listener in listeners] == list(BOTH)
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("address", BOTH)
def test_a_port_that_is_in_use_on_one_address_is_not_taken_on_the_other(address: str) -> None:
    """Otherwise the browser could bring the response to another program."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            listen_on(BOTH, port)
    for listener in listen_on(BOTH, port):  # the failed attempt has left no socket
        listener.close()


def test_a_machine_without_one_of_the_addresses_uses_the_other() -> None:
    absent = "2001:db8::1"  # of documentation (RFC 3849): no machine has it
    (listener,) = listen_on(("127.0.0.1", absent), 0)
    listener.close()
    with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
        listen_on((absent,), 0)
