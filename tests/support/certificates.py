"""Certificates for the tests over TLS, made here: no test depends on a tool of the machine's."""

from pathlib import Path

import trustme


def write_certificate(folder: Path) -> None:
    """Put certificate.pem and key.pem for this machine into a folder, and authority.pem, which signed it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "certificate.pem", append=True)
