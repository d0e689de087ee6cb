"""A certificate for this machine, signed by itself."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def certificate_in(folder: Path) -> tuple[Path, Path]:
    """The files of a certificate for localhost and of its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    request = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -out {certificate} -keyout {key}"
    subprocess.run(
        ["openssl", *request.split(), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key


def client_certificate_in(folder: Path, certificate: Path, key: Path) -> tuple[Path, Path]:
    """The files of a client's certificate, signed with that one, and of its key."""
    signed, own, request = folder / "client.pem", folder / "client.key", folder / "client.request"
    for words in (
        f"req -newkey rsa:2048 -nodes -subj /CN=client -keyout {own} -out {request}",
        f"x509 -req -in {request} -CA {certificate} -CAkey {key} -CAcreateserial -days 2 -out {signed}",
    ):
        subprocess.run(["openssl", *words.split()], check=True, capture_output=True, timeout=60)
    return signed, own


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
