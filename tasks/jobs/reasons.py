"""Why a call was not admitted, in words for people."""

from limits.reservation import Denied
from workers.models.tiers import apart

#: What each dimension of a quota counts.
DIMENSIONS = {
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "itpm": "input tokens a minute",
    "otpm": "output tokens a minute",
    "rpd": "requests a day",
    "tpd": "tokens a day",
    "concurrency": "calls in flight",
}


#: How the names of a flex tier's own pause and circuit begin.
_FLEX = apart("")


def denial(denied: Denied) -> str:
    """Why a call may not be sent yet."""
    name = subject(denied.subject)
    match denied.reason:
        case "pause":
            return f"{name} has answered 429 and is paused"
        case "circuit":
            return f"{name} is failing: its circuit is open"
        case "latch":
            return f"the account {name} is blocked; a call tries it now and then"
        case "retry_budget":
            return f"too many retries at {name} already"
        case "pace":
            return f"the pace that {name} keeps up with, as its 429s have shown"
        case "budget":
            return f"{budget(denied.subject)} is spent"
        case "budget_held":
            return f"{budget(denied.subject)} is held by calls in flight"
        case "held":
            return "its reservation is another worker's"
        case reason:
            return f"{DIMENSIONS.get(reason, reason)} at {name}"


def subject(name: str) -> str:
    """A bucket, circuit or account for people: with the number of its key only if that isn't the first."""
    if name.startswith(_FLEX):
        return f"the flex tier of {subject(name.removeprefix(_FLEX))}"
    provider, _, rest = name.partition("/")
    key, _, model = rest.partition("/")
    if not key.isdigit():
        return name
    place = f"{provider}/{model}" if model else provider
    return place if key == "0" else f"{place} (key {int(key) + 1})"


def budget(name: str) -> str:
    """A budget as people name it."""
    if name == "all":
        return "the budget over everything"
    kind, _, workflow = name.partition("/")
    return f"the budget of {workflow}" if kind == "workflow" else f"the budget {name}"
