"""The cases of bench/quota.py in simulated time: the share of the quota that is used, and 429s per 1,000 jobs.

The scripts run in a real Valkey; workers, network and provider are events on one clock, so a case takes seconds, and the
same seed has the same result. Four workers have eight starts at a time, more as calls succeed, as real ones do.

    python bench/quota_simulated.py [--jobs 3000] [--seeds 3] [--only WORD …]
"""

import argparse
import math
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from limits.admission import release, sent, settle  # noqa: E402 - the repository is not on the path of a script
from limits.bucket import Quota  # noqa: E402
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle  # noqa: E402
from tests.simulator.config import Model  # noqa: E402
from tests.simulator.quota import Quota as Provider  # noqa: E402
from tests.support.valkey import own_valkey  # noqa: E402
from tests.unit.limits.histories.timeline import Timeline  # noqa: E402
from tests.unit.limits.world import SECOND, START, World  # noqa: E402

RPM, TPM, WORKERS = 1_200, 600_000, 4
COUNTING = ("linear", "per-second", "sliding")
STEP = SECOND // 400
"""A turn of a worker's event loop, and a round trip to Redis, in µs."""

AHEAD, FIRST, CALLS = 5.0, 8, 4


@dataclass
class Worker:
    """What one worker knows: jobs that wait, how many may start together, and until when a 429 stopped it."""

    jobs: deque[str]
    width: float = FIRST
    admitted: int = 0
    group: int = 1
    asking: bool = False
    paused: int = 0
    booked: int = 0
    last_poll: int = 0
    due: set[int] = field(default_factory=set)


class Case:
    """One run."""

    def __init__(self, client: "redis.Redis", counting: str, *, headers: bool, jobs: int, seed: int, rpm: bool) -> None:
        self.world = World(client, seed, name=f"{counting}{headers}{rpm}")
        self.timeline = Timeline(self.world)
        self.pick = random.Random(seed)
        self.quota = Quota(rpm=RPM, tpm=TPM) if rpm else Quota(tpm=TPM)
        self.provider = Provider(Model(rpm=RPM, tpm=TPM, counting=counting), self.seconds())
        self.headers = headers
        self.counting = counting
        self.jobs = jobs
        names = [f"j{number}" for number in range(jobs)]
        self.tokens = {name: self.pick.randint(200, 600) for name in names}
        self.tries = dict.fromkeys(names, 0)
        self.workers = [Worker(deque(names[number::WORKERS])) for number in range(WORKERS)]
        self.reached: list[int] = []
        self.refused = self.early = self.scripts = 0
        self.announced: dict[str, int] = {}
        self.ended = 0

    def seconds(self) -> float:
        return (self.world.now - START) / SECOND

    def costs(self, job: str) -> dict[str, int]:
        tokens = {"tpm": self.tokens[job]}
        return {"rpm": 1} | tokens if "rpm" in self.quota.limits else tokens

    def poll(self, worker: Worker, at: int) -> None:
        """Ask at `at`, unless the worker asks then anyway."""
        at = max(at, self.world.now + STEP, worker.paused)
        worker.due.add(at)

        def turn() -> None:
            if at in worker.due:
                worker.due = {each for each in worker.due if each > at}
                self.ask(worker)

        self.timeline.at(at, turn)

    def ask(self, worker: Worker) -> None:
        """The first waiter asks; with it as many others as were admitted together the last time."""
        if self.world.now < worker.paused:
            self.poll(worker, worker.paused)
            return
        group, admitted, back = max(1, min(int(worker.width), worker.group)), 0, None
        while worker.jobs and admitted < group:
            if worker.booked >= 150:
                back = 0.05
                break
            job = worker.jobs[0]
            name = f"{job}.{self.tries[job]}"
            waits = worker.group == 0 or worker.last_poll > 0
            answer = self.world.ask(
                name, self.quota, costs=self.costs(job), max_wait=AHEAD, send_at_once=True, for_waitlist=waits
            )
            self.scripts += 1
            if isinstance(answer, Denied):
                assert answer.opens_in is not None
                back = answer.opens_in
                worker.last_poll = 1
                break
            assert isinstance(answer, Admitted), answer
            worker.jobs.popleft()
            self.tries[job] += 1
            admitted += 1
            worker.admitted += 1
            if answer.sent:
                self.write(worker, job, name)
            else:
                worker.booked += 1
                self.timeline.at(answer.at + STEP, lambda w=worker, j=job, n=name: self.depart(w, j, n))
        if back is None:
            worker.group = min(int(worker.width), max(worker.group, admitted) + 1)
            self.poll(worker, self.world.now + STEP)
        else:
            worker.group = worker.admitted or worker.group // 2
            worker.admitted = 0
            self.poll(worker, self.world.now + max(SECOND // 50, min(SECOND // 1, math.ceil(back * SECOND))))

    def depart(self, worker: Worker, job: str, name: str) -> None:
        """A booked call's time has come."""
        if self.world.now < worker.paused:
            self.timeline.at(worker.paused, lambda: self.depart(worker, job, name))
            return
        permit = self.world.run(sent, name, "o")
        self.scripts += 1
        if permit.verdict == "sent":
            worker.booked -= 1
            self.write(worker, job, name)
        elif permit.verdict == "wait" and permit.wait <= 10:
            self.timeline.at(self.world.now + math.ceil(permit.wait * SECOND), lambda: self.depart(worker, job, name))
        else:
            worker.booked -= 1
            if permit.verdict in ("wait", "revoked"):
                self.world.run(release, name, "o")
                self.scripts += 1
            worker.jobs.appendleft(job)
            self.poll(worker, self.world.now + STEP)

    def write(self, worker: Worker, job: str, name: str) -> None:
        on_the_way = self.pick.randint(STEP // 2, 4 * STEP)
        written = self.world.now + STEP

        def go() -> None:
            if self.world.now < worker.paused:
                self.timeline.at(worker.paused, go)
                return
            self.timeline.at(self.world.now + on_the_way, lambda: self.reach(worker, job, name))

        self.timeline.at(written, go)

    def reach(self, worker: Worker, job: str, name: str) -> None:
        now = self.seconds()
        costs = {"rpm": 1.0, "tpm": float(self.tokens[job]), "itpm": 0.0, "otpm": 0.0}
        wait, dimension = self.provider.wait(costs, now)
        if self.world.now < self.announced.get(job, 0) - 1:
            self.early += 1
        levels = {}
        if wait <= 0:
            self.provider.take(costs, now)
            self.reached.append(self.world.now)
        if self.headers:
            for each, one in self.provider.counters.items():
                reset = math.ceil(one.reset(now) * 1000) / 1000
                levels[each] = Level(RPM if each == "rpm" else TPM, math.floor(one.remaining(now)), reset)
        told = {"b": levels} if levels else {}
        if wait <= 0:
            latency = self.pick.randint(SECOND // 5, 4 * SECOND // 5)
            self.timeline.at(self.world.now + latency, lambda: self.answered(worker, name, told))
        else:
            self.refused += 1
            after = max(1, math.ceil(wait))
            self.announced[job] = self.world.now + after * SECOND
            self.timeline.at(
                self.world.now + 2 * STEP, lambda: self.throttled(worker, job, name, told, after, dimension)
            )

    def answered(self, worker: Worker, name: str, told: dict) -> None:
        self.world.run(settle, name, "o", Settlement(levels=told))
        self.scripts += 1
        self.ended += 1
        worker.width += 1 / CALLS
        if worker.booked == 0 and worker.jobs and not worker.due:
            self.poll(worker, self.world.now + STEP)

    def throttled(self, worker: Worker, job: str, name: str, told: dict, after: float, dimension: str) -> None:
        worker.paused = max(worker.paused, self.world.now + math.ceil(after * SECOND))
        worker.width = FIRST
        settlement = Settlement(
            levels=told, throttles=(Throttle("b", after, dimension if self.headers else ""),), outcome="neutral"
        )

        def book() -> None:
            self.world.run(settle, name, "o", settlement)
            self.scripts += 1
            worker.jobs.appendleft(job)
            self.poll(worker, worker.paused)

        self.timeline.at(self.world.now + STEP, book)

    def run(self) -> tuple[float, float, int, float]:
        for number, worker in enumerate(self.workers):
            self.poll(worker, START + number * STEP // 4 + STEP)
        end = START
        while self.ended < self.jobs and end < START + 600 * SECOND:
            end += SECOND
            self.timeline.until(end)
        assert self.ended == self.jobs, f"{self.ended} of {self.jobs} were answered"
        wall = (max(self.reached) - min(self.reached)) / SECOND
        return self.ideal() / max(wall, 1e-9), self.refused / self.jobs * 1000, self.early, self.scripts / self.jobs

    def ideal(self) -> float:
        if self.counting == "linear":
            return max(0.0, (self.jobs - RPM) / (RPM / 60))
        if self.counting == "per-second":
            return self.jobs / (RPM / 60) - 1
        return 60.0 * ((self.jobs - 1) // RPM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--learned", action="store_true", help="a provider whose request limit is not configured")
    arguments = parser.parse_args()
    with own_valkey() as server:
        client = redis.Redis(port=server.port)
        for headers in (True, False):
            for counting in COUNTING:
                name = f"{counting} {'with' if headers else 'without'}"
                if not all(word in name for word in arguments.only):
                    continue
                began = time.monotonic()
                before = sum(client.info("cpu")[each] for each in ("used_cpu_user", "used_cpu_sys"))
                found = []
                for seed in range(arguments.seeds):
                    client.flushall()
                    case = Case(
                        client, counting, headers=headers, jobs=arguments.jobs, seed=seed, rpm=not arguments.learned
                    )
                    found.append(case.run())
                cpu = sum(client.info("cpu")[each] for each in ("used_cpu_user", "used_cpu_sys")) - before
                used = ", ".join(f"{each[0]:.1%}" for each in found)
                refused = ", ".join(f"{each[1]:.1f}" for each in found)
                print(
                    f"{name}: used {used}; 429s per 1,000 {refused}; early {sum(each[2] for each in found)}; "
                    f"{found[0][3]:.1f} scripts, {cpu / arguments.jobs / arguments.seeds * 1e3:.2f} ms of Redis a job; "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
