"""The pages as a person sees them, in a real browser; skipped without chromium."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.simulator import Simulator
from tests.support.browser import Browser, available
from tests.support.site import Site, jobs, wait_for
from tests.support.watching import USER, ask, flower

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(available() is None, reason="there is no chromium (apt-get install chromium)"),
]

PAGES = ("workflows", "limits", "broker")


class Seen:
    """A browser before a site that runs."""

    def __init__(self, browser: Browser, site: Site, simulator: Simulator, url: str, batch: str) -> None:
        self.browser, self.site, self.simulator, self.url, self.batch = browser, site, simulator, url, batch

    def open(self, page: str) -> None:
        self.browser.open(f"{self.url}/{page}", "document.querySelectorAll('tbody tr').length > 0")

    def dark(self) -> bool:
        """Whether the page's ground is dark."""
        colour: str = self.browser.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.strip("rgb()").split(",")[:3]) < 3 * 64


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    limits = "rpm = 120\nburst = 5.0\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    with (
        Simulator(latency=[0.1, 0.4], answer_tokens=20) as simulator,
        Site(
            tmp_path_factory.mktemp("browser"),
            simulator,
            model=limits,
            tables="[workflows.nightly]\nbudget_usd = 2.0\ndeadline = 600",
        ) as site,
    ):
        site.start_worker()
        with flower(site) as url, Browser() as browser:
            browser.login(USER)
            batch = site.submit(jobs(400))
            yield Seen(browser, site, simulator, url, batch)
            for worker in site.workers:
                worker.kill()  # its batch goes on for minutes


def test_pages_follow_the_batch_by_themselves(seen: Seen) -> None:
    seen.browser.size(1280, 800)
    seen.open("workflows")
    wait_for(lambda: seen.batch in seen.browser.text(), what="the batch on a page that was open before")
    assert "nightly" in seen.browser.text()

    def done() -> int:
        found: str = seen.browser.evaluate("document.querySelector('[data-label=Progress]').innerText")
        return int(found.split(" of ", maxsplit=1)[0])

    first = done()
    wait_for(lambda: done() > first, what="progress without a reload")
    wait_for(lambda: "requests a minute" in seen.browser.text(), what="what the batch waits for")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_every_page_fits_and_follows_the_theme(seen: Seen, theme: str, width: int, phone: bool) -> None:
    seen.browser.size(width, 844, phone=phone)
    seen.browser.theme(theme)
    for page in PAGES:
        seen.open(page)
        assert seen.browser.overflow() <= 0, f"{page} is wider than the window"
        assert seen.dark() is (theme == "dark"), page
        small = seen.browser.evaluate(
            "[...document.querySelectorAll('td, .overnight-bar-words')].filter(e => e.offsetWidth)"
            ".map(e => parseFloat(getComputedStyle(e).fontSize)).reduce((a, b) => Math.min(a, b), 99)"
        )
        assert small >= 12, f"{page} has words of {small} px"


def test_the_tabs_lead_to_the_pages(seen: Seen) -> None:
    seen.browser.size(1280, 800)
    seen.open("workers")
    for words, path in (("Workflows", "/workflows"), ("Limits", "/limits")):
        seen.browser.evaluate(f"[...document.querySelectorAll('a.nav-link')].find(a => a.text === '{words}').click()")
        seen.browser.wait(f"location.pathname === '{path}' && document.querySelector('.nav-link.active')")
        assert seen.browser.evaluate("document.querySelector('.nav-link.active').text") == words


def test_the_buttons_change_the_workers_concurrency(seen: Seen) -> None:
    seen.browser.size(1280, 800)
    (name,) = json.loads(ask(f"{seen.url}/api/workers?refresh=1", user=USER)[1])

    def concurrency() -> int:
        found = json.loads(ask(f"{seen.url}/api/workers?refresh=1&workername={quote(name)}", user=USER)[1])
        return int(found[name]["stats"]["pool"]["max-concurrency"])

    before = concurrency()
    seen.browser.open(
        f"{seen.url}/worker/{quote(name)}", "document.querySelector('#worker-pool-grow') && window.jQuery"
    )
    for button, expected in (("grow", before + 3), ("shrink", before)):
        seen.browser.evaluate("document.querySelector('#pool-size').value = 3")
        seen.browser.evaluate(f"document.querySelector('#worker-pool-{button}').click()")
        wait_for(lambda: concurrency() == expected, what=button)  # noqa: B023 - waited for within the turn


def test_nothing_fails_in_the_browser(seen: Seen) -> None:
    """Last of all: no error in the console, whatever was opened and pressed."""
    seen.open("tasks")
    seen.browser.wait("document.querySelectorAll('#tasks-table tbody tr').length > 3")
    assert [line for line in seen.browser.console if "favicon" not in line] == []
