"""Certificates for the tests over TLS, made here: no test depends on a tool of the machine's."""

from pathlib import Path

import trustme


def write_certificate(folder: Path, *names: str) -> None:
    """Put certificate.pem and key.pem into a folder, for this machine or these names; authority.pem signed them."""
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "certificate.pem", append=True)
