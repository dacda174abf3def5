"""How the tests are shared out where several run side by side: a file at a time, and the limits' room as a whole."""

from pathlib import Path

import pytest

ROOM = Path(__file__).parent / "unit" / "limits"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Name the test's group; the room's last test asks whether the others have reached every branch."""
    group = ROOM if ROOM in item.path.parents else item.path
    item.add_marker(pytest.mark.xdist_group(str(group.relative_to(ROOM.parents[1]))))
