"""The flex tiers of the models as of now: their pauses and circuits, as far as they hold calls back."""

import time
from collections.abc import Collection, Iterable
from dataclasses import replace

from limits.bucket import Quota
from limits.encoding import SECOND
from limits.snapshot import Snapshot, snapshot
from tasks.batches import takeover
from tasks.batches.batch import Batch
from tasks.batches.store import Store
from tasks.jobs.reasons import subject
from tasks.monitoring.limits import accounts_of, targets
from workers.config.settings import Settings
from workers.models.tiers import FLEX, apart


def holding_back(settings: Settings, store: Store, names: Collection[str]) -> Snapshot:
    """The paused buckets and the circuits that aren't closed, of the flex tiers of some targets."""
    found: Snapshot = store.server.run(
        snapshot(
            store.keys,
            [(bucket, Quota()) for name in names for bucket in _buckets(settings, name)],
            [apart(name) for name in names],
        )
    )
    return replace(
        found,
        buckets=tuple(bucket for bucket in found.buckets if bucket.paused_until > found.now),
        circuits=tuple(circuit for circuit in found.circuits if circuit.state != "closed"),
    )


def with_flex(settings: Settings, store: Store, limits: Snapshot) -> Snapshot:
    """A snapshot of the limits, and what holds the flex tiers back."""
    if not any(FLEX in workflow.lanes for workflow in settings.workflows.values()):
        return limits
    found = holding_back(settings, store, [f"{name}/{model}" for name, model in targets(settings)])
    return replace(limits, buckets=limits.buckets + found.buckets, circuits=limits.circuits + found.circuits)


def waits_for(settings: Settings, store: Store, batch: Batch) -> str:
    """What the lines of a batch wait for in the flex lane, in words; '' if nothing holds all its targets back."""
    names = [name for name in batch.targets if name.partition("/")[0] in settings.providers]
    if not batch.has_flex_lane or batch.over or not names or time.time() >= takeover.last_call(batch):
        return ""
    found = holding_back(settings, store, names)
    shut = {circuit.circuit for circuit in found.circuits}
    ends = {bucket.bucket: bucket.paused_until for bucket in found.buckets}
    if not all(apart(name) in shut or ends.keys() >= set(_buckets(settings, name)) for name in names):
        return ""
    words = ", ".join(subject(apart(name)) for name in names)
    if not ends:
        return f"{words} is failing: its circuit is open"
    return f"{words} has no capacity: paused for {(min(ends.values()) - found.now) / SECOND:.0f} s"


def _buckets(settings: Settings, name: str) -> Iterable[str]:
    """The buckets of a target's flex tier, one for each account."""
    provider, _, model = name.partition("/")
    accounts = accounts_of(settings, provider)
    return [apart(f"{each}/{model}") for each in accounts[: 1 if settings.providers[provider].shared_quota else None]]
