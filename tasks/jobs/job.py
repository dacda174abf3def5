"""One line of a batch: a call to make. It is checked before it is queued, and again when it arrives.

The format is OpenAI's batch input (https://platform.openai.com/docs/guides/batch): one object per line with
`custom_id`, `method`, `url` and `body`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import orjson

from limits.client import compact_json
from limits.client.compact_json import dumps
from tasks.jobs import proof
from tasks.jobs.spending_cap import SpendingCap
from workers.config.fields import is_model_name
from workers.providers import bodies

#: The urls of calls that a line may name.
URLS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")

#: The prefix of an agent's url: `/agents/<name>`.
AGENTS = "/agents/"

#: The header of a message with the time until which its line may wait for the flex lane: seconds since the epoch.
FLEX_UNTIL = "overnight_flex_until"

#: Characters: longer ids don't fit into tables and log lines. OpenAI's limit is the same.
MAX_CUSTOM_ID = 512


@dataclass(frozen=True, slots=True)
class Line:
    """A valid input line."""

    custom_id: str
    url: str
    body: dict[str, Any]

    @property
    def model(self) -> str:
        """The model's name as the producer wrote it; the url if the line names an agent."""
        model: str = self.url if self.agent else self.body["model"]
        return model

    @property
    def kind(self) -> str:
        """What runs the line: `agent`, or `call` for one call to a model."""
        return "agent" if self.agent else "call"

    @property
    def tier(self) -> str:
        """The service tier that the line itself asks for, '' if it asks for none."""
        tier = self.body.get("service_tier")
        return tier.lower() if isinstance(tier, str) and not self.agent else ""

    @property
    def agent(self) -> str:
        """The agent that the line names; '' if it names a model."""
        return self.url.removeprefix(AGENTS) if self.url.startswith(AGENTS) else ""


def decode(raw: bytes) -> Any:
    """The JSON value of one line. Raises ValueError with the reason if it isn't JSON."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError(f"not UTF-8: byte {exc.start + 1} of the line is 0x{raw[exc.start]:02x}") from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc.msg} (column {exc.colno})") from None
    if compact_json.has_long_number(raw):
        try:
            compact_json.decoder(_refuse).decode(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    return value


def _refuse(number: str) -> NoReturn:
    raise ValueError(
        f"a number of {sum(map(str.isdigit, number))} digits would lose digits: whole numbers may have "
        f"64 bits, others 17 digits; write it as a string, or shorter"
    )


def check(value: Any) -> tuple[Line | None, list[str]]:
    """The line that a JSON value describes, and every problem with it. With problems there is no line."""
    if not isinstance(value, dict):
        return None, [f"must be a JSON object, got {_kind(value)}"]
    problems: list[str] = []
    custom_id = value.get("custom_id")
    if "custom_id" not in value:
        problems.append("custom_id is missing: give each line an id of its own")
    elif not isinstance(custom_id, str) or not custom_id:
        problems.append(f"custom_id must be a string that is not empty, got {_kind(custom_id)}")
    elif len(custom_id) > MAX_CUSTOM_ID:
        problems.append(f"custom_id has {len(custom_id):,} characters, {MAX_CUSTOM_ID} at most")
    if value.get("method", "POST") != "POST":
        problems.append(f'method must be "POST", got {_shown(value["method"])}')
    url = value.get("url")
    calls_agent = isinstance(url, str) and url.startswith(AGENTS) and url != AGENTS
    if url not in URLS and not calls_agent:
        got = "it is missing" if "url" not in value else f"got {_shown(url)}"
        problems.append(f"url must be one of {', '.join(URLS)}, or {AGENTS}NAME: {got}")
    body = value.get("body")
    if not isinstance(body, dict):
        got = "it is missing" if "body" not in value else f"got {_kind(body)}"
        problems.append(f"body must be an object: {got}")
    elif not calls_agent:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            problems.append("body.model must name a model")
        elif not is_model_name(model):
            problems.append("body.model must be a model's name: printable, without spaces, at most 256 characters")
        if isinstance(url, str) and url in URLS:
            problems.extend(f"body: {problem}" for problem in bodies.check_body(url, body))
    unknown = sorted(set(value) - {"custom_id", "method", "url", "body"})
    if unknown:
        problems.append(f"unknown keys: {', '.join(_shown(key) for key in unknown[:5])}")
    if problems:
        return None, problems
    assert isinstance(custom_id, str)
    assert isinstance(url, str)
    assert isinstance(body, dict)
    return Line(custom_id, url, body), []


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "a string", bool: "true or false"}.get(type(value), "a number")


def _shown(value: Any) -> str:
    """A short value in quotes; only the length of a long one, since it may be a prompt."""
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f"a string of {len(value):,} characters"  # noqa: PLR2004
    return _kind(value)


@dataclass(frozen=True, slots=True)
class Job:
    """A job on its way: a line, and which batch, line number and round it is, or a task id of its own.

    `deadline` is in seconds since the epoch; 0 means none. A call that an agent makes is a job, too, with the `call`
    that it is in its agent, and the agent's `spending_cap`. `proof`: what makes it a line of its batch (jobs/proof.py);
    `stamp` keeps a job without a batch apart from others that repeat its task's id: of another workflow or line.
    `ceiling`: of each answer, raised for a truncated one (tasks/answers/again.py); 0 for the line's own.
    `flex_until`: when it must be called live at the latest, 0 if it may not wait; `lane`: live, or flex (jobs/flex.py).
    """

    line: Line
    task_id: str
    workflow: str
    batch: str | None = None
    number: int = 0
    round: int = 0
    deadline: float = 0.0
    call: str = ""
    spending_cap: SpendingCap | None = None
    proof: str = ""
    stamp: str = ""
    flex_until: float = 0.0
    lane: str = "live"
    ceiling: int = 0

    @property
    def paced_as(self) -> str:
        """The model by whose denials and 429s this job is held back. A model's flex tier counts as another model."""
        return f"{self.line.model} (flex)" if "flex" in (self.lane, self.line.tier) else self.line.model

    @property
    def id(self) -> str:
        """The id of what is paid for once: batch, line and round, or the task's id with its stamp."""
        return f"{self.batch}:{self.number}:{self.round}" if self.batch else self.task_id + self.stamp

    def of_model(self, model: str) -> "Job":
        """The same job for another model."""
        return replace(self, line=replace(self.line, body={**self.line.body, "model": model}))

    @property
    def result_id(self) -> str:
        """The `id` of its output line, the same for every delivery."""
        return "batch_req_" + hashlib.blake2b(self.id.encode(), digest_size=12).hexdigest()


def received(
    args: Any, kwargs: Any, *, task_id: str, workflow: str, headers: Mapping[str, Any] | None = None
) -> tuple[Job, str]:
    """The job in a message, and the problems with it in words; '' if there are none.

    Anyone with access to the broker can write a message, so everything in it is checked.
    """
    value = kwargs.get("job")
    batch, number, round_ = kwargs.get("batch"), kwargs.get("line", 0), kwargs.get("round", 0)
    deadline = kwargs.get("deadline", 0.0)
    line, problems = check(value)
    if args:
        problems.insert(0, "a job is sent as kwargs={'job': {…}}, not as positional arguments")
    if unknown := set(kwargs) - {"job", "batch", "line", "round", "deadline"}:
        problems.append(f"unknown arguments: {', '.join(sorted(map(str, unknown)))[:100]}")
    if batch is not None and not (isinstance(batch, str) and _count(number) and _count(round_)):
        batch = None
        problems.append("batch, line and round must be a batch id and two whole numbers")
    if not isinstance(deadline, int | float):
        deadline = 0.0
        problems.append("deadline must be seconds since the epoch")
    if line is None:
        custom_id = value.get("custom_id") if isinstance(value, dict) else None
        line = Line(custom_id if isinstance(custom_id, str) else task_id, "", {})
    job = Job(line, task_id, workflow, deadline=float(deadline))
    if batch is None:
        job = replace(job, stamp=_stamp(workflow, value))
    else:
        shown, until = ((headers or {}).get(name) for name in (proof.HEADER, FLEX_UNTIL))
        job = replace(job, batch=batch, number=number, round=round_, proof=shown if isinstance(shown, str) else "")
        job = replace(job, flex_until=_time(until))
    return job, "; ".join(problems)


def _stamp(workflow: str, value: Any) -> str:
    """A digest of a workflow and a line: equal for equal ones."""
    try:
        text = dumps(value)
    except TypeError:  # nested too deeply to encode
        text = repr(value).encode("utf-8", "replace")
    return "." + hashlib.blake2b(workflow.encode() + b"\n" + text, digest_size=8).hexdigest()


def _time(value: Any) -> float:
    """Seconds since the epoch; 0 for anything else."""
    try:
        return float(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 32


def result_line(
    result_id: str,
    custom_id: str,
    *,
    response: dict[str, Any] | None,
    error: dict[str, Any] | None,
    report: dict[str, Any],
) -> dict[str, Any]:
    """One line of the output or error file in OpenAI's format, with the job's report as `overnight`."""
    return {
        "id": result_id,
        "custom_id": custom_id,
        "response": response,
        "error": error,
        "overnight": report,
    }


def error_object(code: str, message: str) -> dict[str, Any]:
    """The `error` of a result line."""
    return {"code": code, "message": message}


def encode(line: dict[str, Any]) -> bytes:
    """A result line as bytes, without its newline."""
    return dumps(line)


def join(lines: Iterable[bytes]) -> bytes:
    """A file's content: each line with its newline."""
    return b"".join(line + b"\n" for line in lines)
