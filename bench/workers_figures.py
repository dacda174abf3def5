"""What came of the runs of `bench/workers.py`, and the report on them."""

import os
import platform
from dataclasses import dataclass
from statistics import median

#: Seconds that the provider takes to answer.
LATENCY = 0.05


@dataclass(frozen=True)
class Figures:
    """One run. CPU in ms a job: the client's processes, and Redis. Memory in MB, of the largest process. `again`: calls
    of jobs that had been answered; `missing`: jobs that were not.
    """

    name: str
    jobs: int
    seconds: float
    cpu: float
    redis: float
    memory: float
    again: int = 0
    missing: int = 0

    @property
    def rate(self) -> float:
        return self.jobs / self.seconds


@dataclass(frozen=True)
class InFlight:
    """Many calls at a time: the most at once, seconds from the first to the last answer, the worker's memory in MB."""

    calls: int
    seconds: float
    most: int
    memory: float


def report(found: dict[str, list[Figures]], flight: InFlight | None) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [
        "# What a job costs its worker",
        "",
        f"`make bench-workers`, {machine}; provider, Redis and workers on one machine.",
        f"A provider of {LATENCY * 1000:.0f} ms without quotas. One worker process with 200 places (prefork: 16).",
        "CPU of all client processes, in ms a job; medians, the range of the runs in brackets.",
        "",
        "| | jobs/s | CPU a job | Redis a job | memory |",
        "|---|---|---|---|---|",
    ]
    for runs in found.values():
        cpus = sorted(run.cpu for run in runs)
        redis = median(run.redis for run in runs)
        memory = median(run.memory for run in runs)
        lines.append(
            f"| {runs[0].name} | {median(run.rate for run in runs):,.0f} | "
            f"{median(cpus):.2f} ms ({cpus[0]:.2f} to {cpus[-1]:.2f}) | "
            f"{f'{redis:.2f} ms' if redis else '-'} | {f'{memory:.0f} MB' if memory else '-'} |"
        )
    lines += [
        f"\n{runs[0].name}, run by run: {'; '.join(f'{run.again} calls made twice, {run.missing} jobs left' for run in runs)}."
        for runs in found.values()
        if any(run.again or run.missing for run in runs)
    ]
    if flight is not None:
        lines += [
            "",
            f"In flight: {flight.calls:,} calls of 20 s in one worker process, {flight.most:,} of them at once;",
            f"all answered {flight.seconds:.1f} s after the first was sent; at most {flight.memory:.0f} MB.",
        ]
    return "\n".join(lines) + "\n"
