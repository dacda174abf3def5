"""What is lost, doubled and late when workers are killed, cut off and stopped, and the server goes away, under load.

2,000 jobs, a provider of 0.5 to 3 s, three worker processes. 20 times `kill -9` of a worker, which is started again;
10 times every connection dropped (`CLIENT KILL`); 5 workers stopped for 20 s (SIGSTOP); 20 jobs of a stock producer
with an ETA; a server that is away for 90 s, and once for 8 s just as jobs are being put off by a 429. Then the same
on stock Celery: its own transport, `acks_late`, gevent and httpx.

    python bench/chaos.py [overnight] [stock] [--jobs N] [--kills N] [--away SECONDS] [--report FILE]
"""

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.chaos_sides import CONCURRENCY, SIDES, WORKERS, Overnight, Side  # noqa: E402 - not on a script's path
from bench.report_file import publish  # noqa: E402
from tests.simulator import Simulator  # noqa: E402
from tests.simulator.answers import job_of  # noqa: E402
from tests.support.site import job, wait_for  # noqa: E402

if TYPE_CHECKING:
    import subprocess

LATENCY = [0.5, 3.0]
ETA, ETAS = 40.0, 20
STOPPED, DROPS, STOPS = 20.0, 10, 5

#: How long after the last disturbance jobs may still come in, in seconds.
PATIENCE = 150.0


@dataclass
class Story:
    """What happened, and what became of it."""

    name: str
    jobs: int
    kills: int = 0
    drops: int = 0
    stops: int = 0
    in_flight: int = 0
    lost: int = 0
    once: int = 0
    paid: int = 0
    oldest: float = 0.0
    etas: list[int] = field(default_factory=list)
    late: float = 0.0
    seconds: float = 0.0


def signalled(pid: int, seconds: float) -> None:
    """Stop a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def disturb(side: Side, simulator: Simulator, story: Story, kills: int, away: float, chance: random.Random) -> None:
    """Everything that goes wrong, in a random order but for the server's two absences, which end it."""
    steps = ["kill"] * kills + ["drop"] * DROPS + ["stop"] * STOPS
    chance.shuffle(steps)
    stopped: list[threading.Thread] = []
    for step in steps:
        time.sleep(chance.uniform(1.0, 3.0))
        live = [worker for worker in side.workers if worker.poll() is None]
        victim = chance.choice(live)
        if step == "kill":
            story.in_flight += CONCURRENCY
            victim.kill()
            victim.wait()
            side.start_worker()
            story.kills += 1
        elif step == "drop":
            client = redis.Redis.from_url(side.url())
            mine = str(client.client_id())
            for one in client.client_list():
                if one["id"] != mine:
                    client.client_kill_filter(_id=one["id"])
            client.close()
            story.drops += 1
        else:
            thread = threading.Thread(target=_stop_quietly, args=(victim, STOPPED))
            thread.start()
            stopped.append(thread)
            story.stops += 1
    for thread in stopped:
        thread.join()
    print(f"  {story.name}: the server is away for {away:.0f} s", flush=True)
    signalled(side.redis_pid(), away)
    time.sleep(3.0)
    simulator.configure(failures=[{"mode": "429", "times": 5, "retry_after": "15"}])
    wait_for(lambda: simulator.stats()["statuses"].get("429") or story.jobs == side.done(), 60)
    print(f"  {story.name}: the server goes away as jobs are put off", flush=True)
    signalled(side.redis_pid(), 8.0)


def _stop_quietly(worker: "subprocess.Popen[bytes]", seconds: float) -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        if worker.poll() is None:
            worker.send_signal(signal.SIGCONT)


class Watch(threading.Thread):
    """Notes the oldest claim without a heartbeat: how long a dead worker's job has waited to be found."""

    def __init__(self, url: str, index: str) -> None:
        super().__init__(daemon=True)
        self.client = redis.Redis.from_url(url, socket_timeout=2)
        self.index = index
        self.oldest = 0.0
        self.over = threading.Event()
        self.answered = time.monotonic()

    def run(self) -> None:
        while not self.over.wait(0.5):
            try:
                found = self.client.zrange(self.index, 0, 0, withscores=True)
                seconds, micros = self.client.time()
            except redis.RedisError:
                self.answered = 0.0
                continue
            # While the server was away no worker could renew anything: that is no worker's silence.
            if not self.answered:
                self.answered = time.monotonic()
            if found and time.monotonic() - self.answered > 75.0:
                self.oldest = max(self.oldest, seconds + micros / 1e6 - found[0][1] / 1e6)


def run(side: Side, simulator: Simulator, count: int, kills: int, away: float, seed: int) -> Story:
    """The whole scenario for one side."""
    story = Story(side.name, count)
    side.start()
    began = time.monotonic()
    watch = Watch(side.url(), "{overnight}:unacked_index")
    watch.answered -= 100.0
    watch.start()
    try:
        side.submit(count)
        due = time.time() + ETA
        etas = [side.send(1_000_000 + number, ETA) for number in range(ETAS)]  # kept: Celery forgets dropped results
        wait_for(lambda: simulator.stats()["in_flight"] > CONCURRENCY, 60)
        disturb(side, simulator, story, kills, away, random.Random(seed))
        last = time.monotonic()
        while time.monotonic() - last < PATIENCE:
            if side.done() == count and len(eta_jobs(simulator.journal())) == ETAS:
                break
            time.sleep(1.0)
        wait_for(lambda: simulator.stats()["in_flight"] == 0, 30)
        story.seconds = time.monotonic() - began
        story.lost = count - side.done()
        story.once = side.unique()
        journal = simulator.journal()
        answers = Counter(entry["job"] for entry in journal if entry["status"] == 200 or entry["cost_nusd"])
        markers = eta_jobs(journal)
        story.etas = [answers[marker] for marker in markers]
        story.late = max((first[0] - due for first in markers.values()), default=0.0)
        story.paid = sum(number - 1 for number in answers.values())
        story.oldest = watch.oldest
        del etas
    finally:
        watch.over.set()
        side.stop()
    return story


def eta_jobs(journal: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The ETA's jobs by the simulator's mark, with the times of their requests."""
    wanted = {job_of(job(1_000_000 + number)["body"]) for number in range(ETAS)}
    found: dict[str, list[float]] = {}
    for entry in journal:
        if entry["job"] in wanted:
            found.setdefault(entry["job"], []).append(entry["wall"])
    return found


def report(stories: list[Story], away: float) -> str:
    rows = [
        ("jobs lost", lambda s: f"{s.lost:,}"),
        ("results there once", lambda s: f"{s.once:,} of {s.jobs:,}"),
        ("answers paid for twice", lambda s: f"{s.paid:,}"),
        ("calls that could be in flight at the kills", lambda s: f"{s.in_flight:,}"),
        ("longest that a dead worker's job was left", lambda s: f"{s.oldest:.0f} s" if s.oldest else "-"),
        (f"runs of {ETAS} jobs with an ETA", lambda s: f"{sum(s.etas)}, of {sum(1 for n in s.etas if n)} jobs"),
        ("all of it", lambda s: f"{s.seconds:.0f} s"),
    ]
    first = stories[0]
    lines = [
        "# Chaos",
        "",
        f"`make chaos`, {os.cpu_count()} cores, Python {platform.python_version()}; everything on one machine.",
        "",
        f"{first.jobs:,} jobs, a provider of {LATENCY[0]} to {LATENCY[1]:.0f} s, {WORKERS} worker processes with",
        f"{CONCURRENCY} places each. {first.kills} × `kill -9` of a worker, {first.drops} × all connections dropped,",
        f"{first.stops} × a worker stopped for {STOPPED:.0f} s, {ETAS} jobs of a plain producer with an ETA, the",
        f"server away for {away:.0f} s, and for 8 s just as jobs were put off by a 429. A job that has not come back",
        f"{PATIENCE:.0f} s after the last of it counts as lost.",
        "",
        "| | " + " | ".join(story.name for story in stories) + " |",
        "|---" * (len(stories) + 1) + "|",
    ]
    lines += [f"| {name} | " + " | ".join(shown(story) for story in stories) + " |" for name, shown in rows]
    return "\n".join(lines) + "\n"


def told_by(name: str, folder: Path, arguments: argparse.Namespace) -> Story:
    """One side's run, with a provider of its own."""
    with Simulator(latency=LATENCY) as simulator:
        side = SIDES[name](folder / name, simulator)
        return run(side, simulator, arguments.jobs, arguments.kills, arguments.away, arguments.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sides", nargs="*", default=list(SIDES))
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--away", type=float, default=90.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stories", type=Path, help="a file of stories that are told already, and to be added to")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    told = arguments.stories.read_text().splitlines() if arguments.stories and arguments.stories.exists() else []
    stories = [Story(**json.loads(line)) for line in told]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as together:
        # At the same time, so that all meet the same machine.
        running = [together.submit(told_by, name, Path(folder), arguments) for name in arguments.sides]
        for one in running:
            stories.append(one.result())
            print(stories[-1], flush=True)
    if arguments.stories:
        arguments.stories.write_text("".join(json.dumps(asdict(story)) + "\n" for story in stories))
    text = report(stories, arguments.away)
    publish(text, arguments.report)
    for story in stories:
        if story.name == Overnight.name:
            assert story.lost == 0, "jobs were lost"
            assert story.once == story.jobs, "a result is not there once"
            assert story.paid <= story.in_flight, "more was paid twice than was in flight"


if __name__ == "__main__":
    main()
