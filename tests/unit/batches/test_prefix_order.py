"""In which order an input is stored for prompt caches."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tasks.batches.input import Place
from tasks.batches.prefix_order import PrefixOrder, order_of
from tests.support.site import job


@pytest.mark.parametrize(
    ("prefixes", "stored"),
    [
        ("ababcabc", "aababcbc"),
        ("aabbccdd", "abacbdcd"),
        ("aaaa", "aaaa"),
        ("a.b.a", "aa.b."),
        ("..", ".."),
        ("", ""),
    ],
)
def test_the_first_line_of_a_prefix_goes_ahead_of_the_others(prefixes: str, stored: str) -> None:
    order = order_of((each.strip(".") for each in prefixes), ahead=2)
    assert sorted(order) == list(range(len(prefixes)))
    assert "".join(prefixes[index] for index in order) == stored


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
    order = PrefixOrder()
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


def test_lines_of_a_prefix_are_together_within_a_window() -> None:
    given = lines(40, 4)
    text = b"\n".join(given) + b"\n"
    stored = b"".join(PrefixOrder(len(b"\n".join(given[:20]))).arranged([text])).splitlines()
    rules = [json.loads(line)["body"]["messages"][0]["content"][:7] for line in stored]
    for half in (rules[:20], rules[20:]):
        assert sorted(half) == sorted(rules[:20])
        assert sum(one != other for one, other in pairwise(half)) <= 7
