"""Proof that a line belongs to its batch: only what the feed has handed out, as it was handed out, runs or ends a line.

A batch's record holds a random token, and the header `overnight_proof` of each message a digest of it with the line
and the round. The scripts `begin` and `finish` compare the two, and write nothing if they differ. Whoever can put
messages into a queue cannot make one: the token is in no message, metric, page or event.
"""

import hashlib
import secrets

#: The header of a job's message that holds the proof.
HEADER = "overnight_proof"


def new_token() -> str:
    """A batch's token."""
    return secrets.token_hex(16)


def proof(token: str, line: int, round_: int) -> str:
    """The proof of one line in one round; '' without a token. SHA-1, since Redis' scripts have nothing else.

    The token stands last: a digest that is known cannot be extended to another line's.
    """
    return hashlib.sha1(f"{line}:{round_}:{token}".encode(), usedforsecurity=False).hexdigest() if token else ""
