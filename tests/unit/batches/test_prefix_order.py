"""In which order an input is stored for prompt caches."""

import json
import math
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tasks.batches.files import verified
from tasks.batches.input import Place
from tasks.batches.prefix_order import PrefixOrder, at_once, order_of
from tasks.jobs.storage import StorageError
from tests.support.site import job


@pytest.mark.parametrize(
    ("prefixes", "at_once", "stored"),
    [
        ("aaabbbccc", 2, "ababacbcc"),
        ("ababcabc", 1, "aababcbc"),
        ("aabbccdd", 1, "abacbdcd"),
        ("abccbacab", 9, "abcabcabc"),
        ("aaaa", 1, "aaaa"),
        ("a.b.a", 1, "aa.b."),
        ("..", 1, ".."),
        ("", 1, ""),
    ],
)
def test_prefixes_take_turns_and_the_first_line_of_each_goes_ahead(prefixes: str, at_once: int, stored: str) -> None:
    order = order_of((each.strip(".") for each in prefixes), at_once, ahead=2)
    assert sorted(order) == list(range(len(prefixes)))
    assert "".join(prefixes[index] for index in order) == stored


@pytest.mark.parametrize(
    ("a_minute", "accounts", "expected"),
    [(4.0, 1, 5), (4.0, 4, 1), (0.1, 1, 1), (16.0, 1, 20), (60.0, 1, 32), (math.inf, 1, 32)],
)
def test_as_many_prefixes_take_turns_as_come_round_in_time(a_minute: float, accounts: int, expected: int) -> None:
    assert at_once(a_minute / 60, accounts) == expected


def lines(count: int, prefixes: int) -> list[bytes]:
    """Lines with one of some system prompts, in turn."""
    found = []
    for number in range(count):
        line = job(number)
        line["body"]["messages"].insert(0, {"role": "system", "content": f"Rule {number % prefixes}. " * 600})
        found.append(json.dumps(line).encode())
    return found


def chunks(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("size", [1_000, 1 << 20])
def test_no_byte_is_added_and_each_line_can_be_found_again(end: bytes, size: int) -> None:
    given = [b"\xef\xbb\xbf" + lines(1, 1)[0], b"", *lines(40, 4), b"  ", lines(1, 1)[0] + b" "]
    text = b"\n".join(given) + end
    order = PrefixOrder(2)
    stored = b"".join(order.arranged(chunks(text, size)))
    assert stored == b"".join(order.arranged(chunks(text, size)))
    assert (len(stored), sorted(stored.split(b"\n"))) == (len(text), sorted(text.split(b"\n")))
    offset = 0
    for number, line in enumerate(given, 1):
        found = order.place(Place(number, offset, len(line) + 1))
        assert stored[found.offset :][: found.size] == line
        assert stored.split(b"\n")[found.number - 1] == line
        assert found.number == order.number(number)
        offset += len(line) + 1


def test_a_file_that_changes_while_it_is_stored_is_reported() -> None:
    text = b"\n".join([*lines(3, 1), b"{", b"[]", b'{"url": 1}', b'{"url": "/agents/a", "body": {}}'])
    with pytest.raises(StorageError, match="changed while it was being submitted"):
        list(PrefixOrder(2).arranged(verified([text], "0")))


def test_lines_of_a_prefix_are_together_within_a_window() -> None:
    given = lines(40, 4)
    text = b"\n".join(given) + b"\n"
    stored = b"".join(PrefixOrder(1, len(b"\n".join(given[:20]))).arranged([text])).splitlines()
    rules = [json.loads(line)["body"]["messages"][0]["content"][:7] for line in stored]
    for half in (rules[:20], rules[20:]):
        assert sorted(half) == sorted(rules[:20])
        assert sum(one != other for one, other in pairwise(half)) <= 7
