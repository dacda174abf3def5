"""What becomes of one request: key, failure, quota, answer. Nothing here knows of sockets."""

import re
import time
from typing import Any
from urllib.parse import parse_qsl

import orjson

from tests.simulator import answers, batch_anthropic, batch_gemini, batch_mistral, batch_openai, flaws, streams
from tests.simulator.batch_objects import Asked
from tests.simulator.batches import Batches
from tests.simulator.config import Config, Model
from tests.simulator.faults import BILLED, Plan, Rules, error, failed
from tests.simulator.journal import Entry, Journal
from tests.simulator.prompt_cache import Cached, PromptCaches
from tests.simulator.quota import Quota
from tests.simulator.refusals import rate_headers, throttled
from tests.simulator.request import Request

_TASKS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/embeddings": "embeddings",
    "/v1/messages": "messages",
}
_BATCHES = re.compile(
    r"(/together)?/v1/(files|batches|batch/jobs|messages/batches)|/openai(/v1)?/(files|batches)"
    r"|(/upload|/download)?/v1beta/(files|batches|models/[^/]+:batch)"
)
# Paths of providers whose Batch APIs have a shape of their own: their chats are OpenAI's.
_PREFIXES = re.compile(r"^/(together/v1|mistral/v1|groq/openai/v1|v1beta/openai)/")
_AZURE = re.compile(r"/openai/deployments/([^/]+)/(chat/completions|embeddings)")
_AZURE_NEW = re.compile(r"/openai/v1/(chat/completions|embeddings|responses)")


class Service:
    """One provider, with the state of its quotas."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.journal = Journal()
        self.quotas: dict[tuple[int, str], Quota] = {}
        self.told_jobs: dict[str, float] = {}
        self.seen_keys: list[str] = []
        self.batches = Batches()
        self.rules = Rules([], config.seed)
        self.caches: PromptCaches | None = None
        self.reconfigured({"models", "failures", "prompt_cache"})

    def reconfigured(self, changed: set[str]) -> None:
        """Take up what was set: new models begin with full quotas, new failures begin now."""
        if changed & {"models", "shared_quota", "keys"}:
            self.quotas.clear()
        if "failures" in changed:
            self.rules = Rules(self.config.failures, self.config.seed)
        if "prompt_cache" in changed:
            self.caches = PromptCaches(self.config.prompt_cache) if self.config.prompt_cache else None

    def clear(self) -> None:
        """Empty the journal and the Batch API. Requests in flight stay counted, by it and by the quotas."""
        self.journal = Journal(in_flight=self.journal.in_flight)
        self.told_jobs.clear()
        self.batches = Batches()

    def models(self, path: str, headers: dict[str, str]) -> Plan:
        """The list of models."""
        key, plan = self._key(path, headers)
        if plan is not None:
            return plan
        names = [name for name in self.config.models if name != "*"] or ["any"]
        body = answers.encoded({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        rule = self.rules.met(names[0], "", key)
        return Plan(body=body) if rule is None else failed(rule, _api(path), "", Plan(body=body))

    def batch(self, method: str, path: str, query: str, headers: dict[str, str], content: bytes) -> Plan | None:
        """Answer a request of a Batch API; None if it isn't one."""
        path = path.removeprefix("/mistral").removeprefix("/groq/openai")
        if not _BATCHES.match(path):
            return None
        key, refused = self._key(path, headers)
        if refused is not None:
            return refused
        self.batches.pass_time(self.config, self.journal)
        named = dict(parse_qsl(query, keep_blank_values=True))
        asked = Asked(method, path, named, key, headers, content)
        self.batches.look_at(self.config, asked)
        handlers = (batch_anthropic, batch_mistral, batch_gemini, batch_openai)
        plans = (each.handle(self.batches, self.config, asked) for each in handlers)
        return next((plan for plan in plans if plan is not None), None)

    def shown_batches(self) -> list[dict[str, Any]]:
        """Every provider batch, for tests."""
        self.batches.pass_time(self.config, self.journal)
        return [
            batch_openai.shown(self.batches, each)
            | {
                "lines": len(each.lines),
                "key": each.key,
                "first": answers.job_of(each.lines[0].body) if each.lines else "",
            }
            for each in self.batches.batches.values()
        ]

    def plan(self, path: str, query: str, headers: dict[str, str], content: bytes) -> Plan:
        """Answer a POST."""
        path = _PREFIXES.sub("/v1/", path)
        task, deployment = _route(path)
        if task is None or (deployment and "api-version=" not in query):
            return error(_api(path), 404, f"Unknown path {path}")
        api = _api(path)
        key, plan = self._key(path, headers)
        if plan is not None:
            plan.entry = Entry(len(self.journal.entries), time.monotonic(), time.time(), path, "", "", key)
            self.journal.add(plan.entry, headers, None)
            return plan
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            body = None
        model = deployment or (body.get("model") if isinstance(body, dict) else None)
        if not isinstance(body, dict) or not isinstance(model, str):
            return error(api, 400, "The body is no JSON object with a model")
        if api == "anthropic" and ("anthropic-version" not in headers or "max_tokens" not in body):
            return error(api, 400, "anthropic-version and max_tokens are required")
        job = answers.job_of(body)
        now, wall = time.monotonic(), time.time()
        entry = Entry(len(self.journal.entries), now, wall, path, model, job, key)
        self.journal.add(entry, headers, body)
        return self._judge(Request(task, api, model, job, key, body, len(content), now, wall), entry, headers)

    def _judge(self, request: Request, entry: Entry, headers: dict[str, str]) -> Plan:
        rule = self.rules.met(request.model, request.job, request.key, request.body.get("service_tier"))
        quota = self._quota(request.key, request.model)
        self._mark_early(entry, quota)
        made = (
            0
            if request.task == "embeddings"
            else answers.made_tokens(request.body, request.job, self.config.answer_tokens)
        )
        made *= request.body.get("n") or 1
        asked = max(1, request.size // 4)
        ceiling = answers.ceiling_of(request.body) * (request.body.get("n") or 1)
        costs = quota.costs(asked, ceiling, made)
        plan = Plan(entry=entry, id_header="request-id" if request.api == "anthropic" else "x-request-id")
        if rule is not None and rule.mode not in BILLED:
            plan = failed(rule, request.api, _key_text(headers), plan)
            self._tell(plan, quota, request)
            return plan
        if (dimension := quota.impossible(costs)) is not None:
            words = (
                f"Request too large for {request.model} on {dimension}: "
                f"Limit {quota.counters[dimension].limit:.0f}, Requested {costs[dimension]:.0f}."
            )
            entry.denied_by = dimension
            return error(request.api, 429, words, plan=plan)
        wait, denied_by = quota.wait(costs, request.now)
        if wait > 0:
            return self._throttle(plan, quota, request, wait, denied_by, costs)
        quota.take(costs, request.now)
        quota.in_flight += 1
        plan.quota, plan.output = quota, made
        entry.charged = costs
        entry.input_tokens, entry.output_tokens = asked, made
        # Billed from the start: a client that hangs up is billed all the same.
        plan.delay = answers.pick(self.config.latency, request.job, "latency")
        cached = Cached(min(self.config.cached_tokens, asked))
        if self.caches is not None and request.task != "embeddings":
            account = 0 if self.config.shared_quota else request.key
            cached = self.caches.of(request, account, asked, request.now + plan.delay)
        entry.cached_tokens = cached.read
        entry.cost_nusd = request.cost(quota.model, asked, made, cached)
        altered = rule.mode if rule is not None and rule.mode in answers.ALTERED else ""
        plan.body = self._answer(request, asked, made, altered, cached)
        if self.config.headers:
            plan.headers = rate_headers(request.api, quota, request.now, request.wall)
        if request.body.get("stream") and request.task != "embeddings":
            plan.headers = {**plan.headers, **streams.HEADERS}
        if rule is not None and not altered:
            plan = failed(rule, request.api, "", plan)
        elif rule is not None:
            entry.mode = rule.mode
        return plan

    def _answer(self, request: Request, asked: int, made: int, altered: str, cached: Cached) -> bytes:
        n = request.body.get("n") or 1
        match request.task:
            case "chat":
                answer = answers.chat(request.body, request.model, request.job, asked, made // n, cached.read)
                if self.config.call_tools and answers.wants_tool(request.body):
                    answers.call_tool(answer, request.body, request.job)
            case "responses":
                answer = answers.response(request.model, request.job, asked, made, cached.read)
            case "embeddings":
                answer = answers.embeddings(request.body, request.model, request.job, asked)
            case _:
                answer = answers.message(request.body, request.model, request.job, asked, made, *cached)
        if "service_tier" in request.body:
            answer["service_tier"] = request.body["service_tier"]
        if request.task != "embeddings":
            flaws.spoil(self.config, self.journal.flawed, answer, request.body, request.job)
        answers.alter(answer, altered)
        if request.body.get("stream") and request.task != "embeddings":
            return streams.stream(request.task, request.body, answer)
        return answers.nested(answer) if altered == "deep" else answers.encoded(answer)

    def _throttle(
        self,
        plan: Plan,
        quota: Quota,
        request: Request,
        wait: float,
        denied_by: str,
        costs: dict[str, float],
    ) -> Plan:
        headers, body, told = throttled(self.config.retry_after, request.api, wait, denied_by, request.wall)
        if quota.model.strict_errors:
            quota.take({**dict.fromkeys(costs, 0.0), "rpm": 1}, request.now)
        plan.status, plan.body, plan.headers = 429, answers.encoded(body), headers
        if self.config.headers:
            plan.headers |= rate_headers(request.api, quota, request.now, request.wall)
        if plan.entry is not None:
            plan.entry.denied_by, plan.entry.retry_after = denied_by, told
        self._tell(plan, quota, request)
        return plan

    def _tell(self, plan: Plan, quota: Quota, request: Request) -> None:
        """Remember an announced wait, to judge which requests come early."""
        told = plan.entry.retry_after if plan.entry is not None else None
        if told is None:
            return
        if request.now + told > quota.told_until:
            if quota.told_until < request.now:
                quota.told_at = request.now
            quota.told_until = request.now + told
        self.told_jobs[request.job] = request.now + told

    def _mark_early(self, entry: Entry, quota: Quota) -> None:
        # Rounding of the announced wait is not the client's fault.
        tolerance = 0.001
        entry.early = entry.at < quota.told_until - tolerance and entry.at > quota.told_at + self.config.grace
        entry.early_job = entry.at < self.told_jobs.get(entry.job, entry.at) - tolerance

    def finished(self, plan: Plan, *, hung_up: bool) -> None:
        """The answer is out, or the client has gone."""
        entry = plan.entry
        if entry is None:
            return
        plan.entry = None
        entry.seconds = time.monotonic() - entry.at
        entry.hung_up = hung_up
        if not hung_up:
            entry.status = plan.status
        self.journal.done()
        if plan.quota is not None:
            plan.quota.in_flight -= 1
            plan.quota.made(plan.output, time.monotonic())

    def _key(self, path: str, headers: dict[str, str]) -> tuple[int, Plan | None]:
        text = _key_text(headers)
        if not self.config.keys:
            if text not in self.seen_keys:
                self.seen_keys.append(text)
            return self.seen_keys.index(text), None
        if text in self.config.keys:
            return self.config.keys.index(text), None
        return -1, error(_api(path), 401, f"Incorrect API key provided: {text[:7]}***{text[-4:]}.")

    def _quota(self, key: int, model: str) -> Quota:
        at = (0 if self.config.shared_quota else key, model)
        quota = self.quotas.get(at)
        if quota is None:
            settings = self.config.models.get(model) or self.config.models.get("*") or Model()
            quota = self.quotas[at] = Quota(settings, time.monotonic())
        return quota


def _api(path: str) -> str:
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "azure" if path.startswith("/openai/") else "openai"


def _route(path: str) -> tuple[str | None, str]:
    if path in _TASKS:
        return _TASKS[path], ""
    if match := _AZURE.fullmatch(path):
        return _TASKS[f"/v1/{match[2]}"], match[1]
    if match := _AZURE_NEW.fullmatch(path):
        return _TASKS[f"/v1/{match[1]}"], ""
    return ("responses", "") if path == "/openai/responses" else (None, "")


def _key_text(headers: dict[str, str]) -> str:
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    names = ("api-key", "x-api-key", "x-goog-api-key")
    return bearer or next((headers[name] for name in names if headers.get(name)), "")
