"""Takes the pictures of docs/monitoring.md: `make screenshots`. A busy site, made of real parts.

Four workflows on two providers: one at its quota, one out of budget, one whose model is failing, and one with answers
that are not valid, equal lines and a batch that someone has paused.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulator import Simulator
from tests.support.asking import asking
from tests.support.browser import Browser
from tests.support.site import Site, job, wait_for
from tests.support.watching import USER, flower

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
TOML = """
budget_usd = 200.0

[providers.acme]
api = "openai"
base_url = "{url}"
api_key = "env:ACME_KEY"
rpm = 6_000
[providers.acme.models.small]
rpm = 1_200
tpm = 200_000
concurrency = 60
input_usd_per_mtok = 5
output_usd_per_mtok = 25
[providers.acme.models.vision]
input_usd_per_mtok = 1
output_usd_per_mtok = 4
[providers.acme.models.large]
rpm = 60
tpm = 40_000
input_usd_per_mtok = 15
output_usd_per_mtok = 75

[providers.globex]
api = "openai"
base_url = "{url}"
api_key = ["env:ACME_KEY", "env:OTHER_KEY"]
[providers.globex.models.flash]
rpm = 300
input_usd_per_mtok = 0.3
output_usd_per_mtok = 2.5

[workflows.nightly-summaries]
budget_usd = 5.0
[workflows.weekly-evaluation]
budget_usd = 0.4
budget_window = "day"
[workflows.invoices]
budget_usd = 10.0
dedupe = true
[workflows.support-triage]
priority = "urgent"
"""


@contextmanager
def stage(folder: Path) -> Iterator[tuple[Site, str]]:
    """A busy site with Flower at the address it gives."""
    models = {
        "vision": {"rpm": 6_000},
        "small": {"rpm": 1_200, "tpm": 200_000},
        "large": {"rpm": 60, "tpm": 40_000, "burst_s": 20},
        "flash": {"rpm": 600},
    }
    failures = [{"mode": "503", "model": "flash", "after": 30}]
    flaws = [
        {"kind": "invalid", "part": 0.05, "model": "vision"},
        {"kind": "truncated", "part": 0.03, "model": "vision"},
    ]
    with (
        Simulator(
            latency=[0.4, 2.5], answer_tokens=[20, 400], models=models, failures=failures, flaws=flaws
        ) as simulator,
        Site(
            folder,
            toml=TOML.format(url=simulator.base_url),
            environment={"OTHER_KEY": "sk-other-key"},
        ) as site,
    ):
        site.start_workers(2)
        with flower(site) as url:
            yield site, url


def load(site: Site) -> None:
    """Work for some minutes."""
    words = "Summarize the ticket: " + "the customer writes at length about a parcel that never came. " * 6
    site.submit([job(n, text=f"{words} {n}") for n in range(300)], workflow="nightly-summaries")
    site.submit([job(n, text=f"{words} again {n}") for n in range(4_000)], workflow="nightly-summaries")
    site.submit([job(n, model="large", text=f"{words} L {n}") for n in range(500)], workflow="weekly-evaluation")
    invoices = [asking(n, model="vision", text=f"{words} I {n % 700}") for n in range(1_000)]
    site.submit(invoices, workflow="invoices")
    paused = site.submit([asking(n, model="vision", text=f"{words} P {n}") for n in range(2_000)], workflow="invoices")
    site.run("pause", paused)
    site.submit([job(n, model="flash", text=f"{words} F {n}") for n in range(900)], workflow="support-triage")


def main() -> None:
    """Start, wait until it is busy, look."""
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as (site, url), Browser() as browser:
        load(site)
        browser.login(USER)
        browser.size(1440, 900)
        browser.open(f"{url}/workflows", "document.querySelectorAll('tbody tr').length > 4")
        time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 45)
        for theme in ("light", "dark"):
            browser.theme(theme)
            browser.size(1440, 900)
            browser.open(f"{url}/workflows", "document.querySelectorAll('tbody tr').length > 4")
            browser.screenshot(IMAGES / f"flower-workflows-{theme}.png")
            browser.open(f"{url}/limits", "document.querySelectorAll('tbody tr').length > 4")
            browser.screenshot(IMAGES / f"flower-limits-{theme}.png")
        browser.theme("light")
        browser.open(f"{url}/tasks?state=RETRY", "document.querySelectorAll('#tasks-table tbody tr').length > 5")
        browser.screenshot(IMAGES / "flower-tasks-waiting-light.png")
        browser.open(f"{url}/tasks?state=SUCCESS", "document.querySelectorAll('#tasks-table tbody tr').length > 5")
        browser.screenshot(IMAGES / "flower-tasks-succeeded-light.png")
        browser.open(f"{url}/broker", "document.querySelectorAll('tbody tr').length > 2")
        browser.screenshot(IMAGES / "flower-queues-light.png")
        worker = wait_for(lambda: browser.evaluate("1") and workers(browser, url), what="workers")[0]
        browser.open(f"{url}/worker/{worker}", "document.querySelector('#worker-pool-grow')")
        browser.screenshot(IMAGES / "flower-worker-light.png")
        browser.size(390, 844, phone=True)
        for theme in ("light", "dark"):
            browser.theme(theme)
            for page in ("workflows", "limits"):
                browser.open(f"{url}/{page}", "document.querySelectorAll('tbody tr').length > 4")
                browser.screenshot(IMAGES / f"flower-{page}-phone-{theme}.png")
        sys.stdout.write(f"pictures in {IMAGES}\n")


def workers(browser: Browser, url: str) -> list[str]:
    """The workers that Flower knows."""
    browser.open(f"{url}/workers", "document.querySelector('#workers-table tbody tr')")
    names: list[str] = browser.evaluate(
        "[...document.querySelectorAll('a.worker-name-link')].map(a => a.getAttribute('title'))"
    )
    return names


if __name__ == "__main__":
    main()
