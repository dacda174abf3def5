"""Looks prices up in the table of `genai-prices`, in a short-lived process.

The table takes half a second and some 50 MB to load, so no worker imports it: `lookup` runs
`python -m workers.models.price_table`.
"""

import json
import logging
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from workers import child_process
from workers.models.prices import Rates
from workers.models.shared_prices import decode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """A model to look up: the configuration's names, and the provider's `base_url`, which identifies the provider.

    Without a `base_url` the provider's name must be the table's. `tier` asks for other prices than the standard ones:
    `batch`, or a `service_tier` such as `flex` or `priority`.
    """

    provider: str
    model: str
    base_url: str = ""
    tier: str = ""

    @property
    def name(self) -> str:
        """The key under which the rates are shared."""
        return f"{self.provider}/{self.model}" + (f"#{self.tier}" if self.tier else "")


def lookup(queries: Iterable[Query], *, timeout: float = 60.0) -> dict[str, Rates]:
    """Rates by `Query.name` from the price table, without the models that it doesn't have.

    Runs a process and waits a second or so for it, so never call this on an event loop. Uncertain matches are logged as
    warnings. Raises OSError, TimeoutExpired or ValueError if the process fails, which says nothing about any price.
    """
    asked = list(queries)
    if not asked:
        return {}
    done = subprocess.run(
        child_process.command("workers.models.price_table"),
        input=json.dumps([asdict(query) for query in asked]),
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout,
        env=child_process.environment(),
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2][:300]
        raise ValueError(f"the price table could not be read (exit status {done.returncode}): {reason}")
    answer = json.loads(done.stdout)
    for warning in answer["warnings"]:
        log.warning("prices: %s", warning)
    return decode(answer["rates"])
