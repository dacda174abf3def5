"""Whether prompt caches can save a batch anything."""

from pathlib import Path

import pytest

from tasks.batches.cache_outlook import cache_outlook
from tasks.batches.estimate import Tally
from tasks.batches.precheck import Precheck
from tasks.jobs.job import Line
from tests.support.toml import PRICES, provider
from workers.config.settings import load
from workers.models.calibration import Ratios


@pytest.mark.parametrize(
    ("prices", "setting", "saves"),
    [
        (f"{PRICES}cached_usd_per_mtok = 0.1", "true", True),
        (PRICES, "true", False),
        ("", "true", False),
        (PRICES, "false", True),
    ],
    ids=["cheaper", "the same", "unknown", "not asked for"],
)
def test_it_says_where_no_cheaper_price_is_known(tmp_path: Path, prices: str, setting: str, saves: bool) -> None:
    file = tmp_path / "overnight.toml"
    table = provider("http://127.0.0.1:1", models={"small": prices})
    file.write_text(f"{table}[workflows.nightly]\nprompt_cache = {setting}\n")
    tally = Tally(Precheck(load(file), "nightly", lambda _: {}), Ratios("none"))
    line = Line("job-1", "/v1/chat/completions", {"model": "small", "messages": []})
    tally.precheck.check(line)
    tally.add(line, 100)
    notes = cache_outlook(tally)
    assert notes == [] if saves else "prompt_cache saves nothing at acme/small" in notes[0]
