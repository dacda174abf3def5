"""Proof that a message is a line of its batch: only a message that the feed has handed out can run or end a line.

A batch's record holds a random token. The header `overnight_proof` of each message holds a digest of the token, the
line and the round. The scripts `begin` and `finish` compare the two, and write nothing if they differ. Access to a
queue is not enough to forge a proof: the token is in no message, metric, page or event.
"""

import hashlib
import secrets

#: The header of a job's message that holds the proof.
HEADER = "overnight_proof"


def new_token() -> str:
    """A new random token for a batch."""
    return secrets.token_hex(16)


def proof(token: str, line: int, round_: int) -> str:
    """The proof of one line in one round; '' without a token. SHA-1, because Redis scripts have no other digest.

    The token comes last, so that a known digest cannot be extended to that of another line.
    """
    return hashlib.sha1(f"{line}:{round_}:{token}".encode(), usedforsecurity=False).hexdigest() if token else ""
