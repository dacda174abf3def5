"""What came of the runs of `bench/quota.py`, and the report on them."""

import os
import platform
from dataclasses import dataclass

RPM, TPM, WORKERS = 1_200, 600_000, 4
OVERNIGHT = "Overnight"
CONTENDER = {
    "nothing": "Celery, retry(countdown=Retry-After)",
    "limits": "Celery + limits",
    "throttled": "Celery + throttled-py",
}
COUNTING = {"linear": "linear bucket", "per-second": "per-second quantum", "sliding": "sliding minute"}


@dataclass(frozen=True)
class Run:
    """One run: who, against which way of counting, with or without rate-limit headers."""

    who: str
    counting: str
    headers: bool

    @property
    def name(self) -> str:
        return f"{self.who} {self.counting} {'with' if self.headers else 'without'} headers"


@dataclass(frozen=True)
class Figures:
    """What came of a run. `wall` and `ideal` in seconds; CPU in ms a job: the clients' processes, and Redis."""

    run: Run
    jobs: int
    answered: int
    wall: float
    ideal: float
    refused: int
    early: int
    cpu: float
    redis: float
    commands: float

    @property
    def utilisation(self) -> float:
        # Jobs that were lost took no quota: a contender that answers half of them in the ideal time has used half of it.
        return self.ideal / self.wall * self.answered / self.jobs


def ideal(counting: str, count: int) -> float:
    """The shortest time from the first request to the last, in seconds."""
    if counting == "linear":
        return max(0.0, (count - RPM) / (RPM / 60))
    if counting == "per-second":
        return count / (RPM / 60) - 1
    return 60.0 * ((count - 1) // RPM)


def report(found: list[Figures], least: tuple[float, float]) -> str:
    lines = [
        "# How much of a quota is used",
        "",
        f"`make bench-quota`, {os.cpu_count()} cores, Python {platform.python_version()}; provider, Redis and workers",
        f"on one machine. {RPM:,} requests and {TPM:,} tokens a minute, {found[0].jobs:,} jobs, {WORKERS} processes.",
        "`used`: the ideal wall time, with a quota that is full at the start, by the measured one, from the first",
        "request to the last answer, times the part of the jobs that was answered. `early`: requests that a job sent before an announced wait was over.",
        "CPU of all client processes, and of Redis, in ms a job; Redis commands a job, those inside scripts included.",
        f"Four bare loops with aiohttp, 20 calls a second together and nothing else, take {least[0]:.2f} ms a call here;",
        f"with four round trips to Redis a call (PING, over one connection each) {least[1]:.2f} ms.",
    ]
    for counting, words in COUNTING.items():
        rows = [each for each in found if each.run.counting == counting]
        if not rows:
            continue
        lines += [
            "",
            f"## {words}, ideal {rows[0].ideal:.0f} s",
            "",
            "| | headers | used | wall | 429s per 1,000 | early | lost | CPU | Redis CPU | commands |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for each in sorted(rows, key=lambda row: (row.run.who != OVERNIGHT, row.run.who, not row.run.headers)):
            who = CONTENDER.get(each.run.who, OVERNIGHT)
            lines.append(
                f"| {who} | {'yes' if each.run.headers else 'no'} | {each.utilisation:.1%} | {each.wall:.1f} s | "
                f"{each.refused / each.jobs * 1000:,.1f} | {each.early:,} | {each.jobs - each.answered:,} | "
                f"{each.cpu:.1f} ms | {each.redis:.2f} ms | {each.commands:,.0f} |"
            )
    return "\n".join(lines) + "\n"
