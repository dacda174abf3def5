"""Flower's page of batches shows the batch lane: a real browser, worker, and provider batches of each kind."""

from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.browser import Browser, available
from tests.support.site import Site, jobs, wait_for
from tests.support.watching import USER, flower

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(available() is None, reason="there is no chromium (apt-get install chromium)"),
]

#: A line has about 10 tokens: a chunk has some 20, and the queue takes two.
MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\nbatch_enqueued_tokens = 400"
PROVIDER = 'batch_poll = "0.3s"\nbatch_cancel_time = "5s"'
LANES = '[workflows.nightly]\nlanes = ["batch", "live"]\nbatch_min_time = "1s"\ndeadline = "10m"\n'


def rows(browser: Browser) -> list[str]:
    """The rows of chunks, as a person reads them."""
    found: list[str] = browser.evaluate(
        "[...document.querySelectorAll('section[aria-label=\"Batch lane\"] tbody tr')].map(e => e.innerText)"
    )
    return found


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_chunks_are_shown_with_their_provider_batches(tmp_path: Path, width: int, *, phone: bool) -> None:
    faults = [{"mode": "expires"}, {"mode": "queued", "seconds": 600}, {"mode": "queued", "seconds": 600}]
    with (
        Simulator(batch_delay=0.5, batch_faults=faults) as simulator,
        Site(tmp_path, simulator, model=MODEL, provider=PROVIDER, tables=LANES) as site,
    ):
        site.start_worker()
        with flower(site) as url, Browser() as browser:
            browser.login(USER)
            browser.size(width, 844, phone=phone)
            batch = site.submit(jobs(90))
            browser.open(
                f"{url}/workflows", "document.querySelectorAll('section[aria-label=\"Batch lane\"] tr').length"
            )
            wait_for(lambda: sum("batch_0000000" in row for row in rows(browser)) == 3, 60, what="provider batches")
            wait_for(
                lambda: any("went live" in row and "closed" in row for row in rows(browser)), 60, what="live lines"
            )
            wait_for(lambda: any("the provider's queue" in row for row in rows(browser)), 30, what="a chunk that waits")
            shown = "\n".join(rows(browser))
            for words in ("running", "acme/small", "validating", "expired", "answered", batch):
                assert words in shown
            assert browser.overflow() <= 0
            whole = browser.text()
            assert "in the batch lane" in whole
            assert "saved" in whole
            browser.screenshot(tmp_path / "page.png", whole=True)
            assert browser.console == [] or all("favicon" in line for line in browser.console)
            for worker in site.workers:
                worker.kill()  # its batch goes on for minutes
