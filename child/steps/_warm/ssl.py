"""TLS. OpenSSL reads its configuration when it is first used, and the machine's certificates when a context is made; a
folder of certificates (``capath``) it reads only in the middle of a handshake. After the seal a new context trusts
nobody, and says so only as "certificate verify failed". What is read here stays in the context that is handed on.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def warm() -> ssl.SSLContext:
    """Shake hands in memory; return a context for clients with the certificates that this machine trusts."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        _handshake(version)
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath  # None if there is no such folder, whatever the stubs say
    if folder and not context.cert_store_stats()["x509_ca"]:
        for file in sorted(Path(folder).glob("*.[0-9]")):
            context.load_verify_locations(file)
    return context


def _handshake(version: ssl.TLSVersion) -> None:
    """Begin a handshake as far as it goes without a certificate: hello, key exchange's choice, and refusal."""
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.create_default_context()
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
    ends = (
        client.wrap_bio(inward, outward, server_hostname="bücher.example"),
        server.wrap_bio(outward, inward, server_side=True),
    )
    for _ in range(2):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLError as error:
                str(error)
