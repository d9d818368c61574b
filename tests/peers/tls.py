"""A certificate authority for one test run, and a server certificate for loopback names."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=30)  # browsers refuse server certificates that are valid for years


@dataclass(frozen=True)
class TLSFiles:
    """The PEM files of a server whose certificate is from the tests' authority.

    Args:
        ca: The authority's certificate, which clients must trust.
        cert: The server's certificate, for 127.0.0.1, ::1, localhost and *.pywry.test.
        key: The server's private key.
    """

    ca: Path
    cert: Path
    key: Path


def make_tls_files(
    directory: Path,
    *,
    begins: datetime.timedelta = datetime.timedelta(hours=-1),
    ends: datetime.timedelta = _LIFETIME,
    host: str = "",
) -> TLSFiles:
    """Create an authority and a server certificate; return the paths in ``directory``.

    Args:
        directory: The folder of the files.
        begins: The time from now at which the server certificate becomes valid.
        ends: The time from now at which the server certificate expires.
        host: The only name in the server certificate; empty means the loopback names.
    """
    ca_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _authority(ca_key)
    server = _server(server_key, ca, ca_key, (begins, ends), host)
    files = TLSFiles(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    files.ca.write_bytes(ca.public_bytes(Encoding.PEM))
    files.cert.write_bytes(server.public_bytes(Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("pywry_auth tests' authority")
    builder = _begin(name, name, key.public_key(), key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _server(
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime.timedelta, datetime.timedelta],
    host: str,
) -> x509.Certificate:
    loopback = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    usual = [*map(x509.DNSName, ("localhost", "*.pywry.test")), *loopback]
    builder = _begin(_name("localhost"), ca.subject, key.public_key(), ca_key.public_key(), valid)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    purposes = [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]  # nodes of a cluster need both
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names = x509.SubjectAlternativeName([x509.DNSName(host)] if host else usual)
    return builder.add_extension(names, critical=False).sign(ca_key, hashes.SHA256())


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    valid: tuple[datetime.timedelta, datetime.timedelta] = (datetime.timedelta(hours=-1), _LIFETIME),
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + valid[0]).not_valid_after(now + valid[1])
    # OpenSSL's strict mode (Python 3.13's default) requires both identifiers (RFC 5280 §4.2.1.1, §4.2.1.2).
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
