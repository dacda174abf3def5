"""Names in the configuration that nothing defines: a target's provider, a fallback's model, a schedule's workflow.

This reads plain tables, valid or not, so that all problems are reported at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple


class Inconsistency(NamedTuple):
    """A place in the file, what would be right there, and what was found."""

    place: tuple[str | int, ...]
    words: str
    found: Any


def inconsistencies(data: Mapping[str, Any]) -> Iterator[Inconsistency]:
    """Every undefined name, by section of the file."""
    providers, models = _tables(data, "providers"), _tables(data, "models")
    for name, model in models.items():
        yield from _targets(name, model.get("targets"), providers)
    for name, workflow in _tables(data, "workflows").items():
        yield from _escalation(name, workflow, models, providers)
        fallback = workflow.get("fallback")
        place = ("workflows", name, "fallback")
        if fallback is None and workflow.get("when_exhausted") == "fallback":
            words = 'is missing: when_exhausted = "fallback" needs a model to fall back to'
            yield Inconsistency(place, words, None)
        elif isinstance(fallback, str) and not _is_model(fallback, models, providers):
            yield Inconsistency(place, _unknown(fallback, models, providers), fallback)
    workflows = _tables(data, "workflows")
    implied = {"default"} if _any_workflow(data, workflows) else set()
    for name, schedule in _tables(data, "schedules").items():
        workflow_name = schedule.get("workflow")
        if isinstance(workflow_name, str) and workflow_name not in {*workflows, *implied}:
            # A mistyped name would get the defaults, which have no budget.
            words = f"must be a table under [workflows], which may be empty{_near(workflow_name, workflows)}"
            yield Inconsistency(("schedules", name, "workflow"), words, workflow_name)
    for section in ("clients", "webhooks"):
        for name, table in _tables(data, section).items():
            listed = table.get("workflows")
            for index, each in enumerate(listed if isinstance(listed, list | tuple) else []):
                if isinstance(each, str) and each not in {*workflows, *implied}:
                    words = f"must be a table under [workflows], which may be empty{_near(each, workflows)}"
                    yield Inconsistency((section, name, "workflows", index), words, each)


def _escalation(
    name: str, workflow: Mapping[str, Any], models: Mapping[str, Any], providers: Mapping[str, Any]
) -> Iterator[Inconsistency]:
    escalate, place = workflow.get("escalate"), ("workflows", name, "escalate")
    if not isinstance(escalate, str):
        return
    if not _is_model(escalate, models, providers):
        yield Inconsistency(place, _unknown(escalate, models, providers), escalate)
    elif workflow.get("on_invalid") != "retry":
        yield Inconsistency(place, 'has no effect without on_invalid = "retry"', escalate)


def _unknown(name: str, models: Mapping[str, Any], providers: Mapping[str, Any]) -> str:
    known = [*models, *(listed for each in providers.values() for listed in _tables(each, "models"))]
    return f"must be a model that is configured{_near(name, known)}"


def _any_workflow(data: Mapping[str, Any], workflows: Mapping[str, Mapping[str, Any]]) -> bool:
    """`Settings.any_workflow`, from plain tables."""
    said = data.get("unconfigured_workflows")
    if said is not None:
        return bool(said)
    return data.get("budget_usd") is not None or all(each.get("budget_usd") is None for each in workflows.values())


def _targets(name: str, targets: Any, providers: Mapping[str, Any]) -> Iterator[Inconsistency]:
    seen: set[tuple[str, str]] = set()
    for index, target in enumerate(targets if isinstance(targets, list) else []):
        if not isinstance(target, Mapping):
            continue
        provider, model = target.get("provider"), target.get("model")
        if not isinstance(provider, str):
            continue
        place = ("models", name, "targets", index)
        if provider not in providers:
            words = f"must be a table under [providers]{_near(provider, providers)}"
            yield Inconsistency((*place, "provider"), words, provider)
        if isinstance(model, str):
            if (provider, model) in seen:
                yield Inconsistency(
                    (*place, "model"), "is in the targets twice: name it once, with the sum of both weights", model
                )
            seen.add((provider, model))


def _tables(data: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    found = data.get(key)
    if not isinstance(found, Mapping):
        return {}
    return {str(name): value for name, value in found.items() if isinstance(value, Mapping)}


def _is_model(name: str, models: Mapping[str, Any], providers: Mapping[str, Any]) -> bool:
    provider, _, model = name.partition("/")
    listed = sum(name in _tables(each, "models") for each in providers.values())
    return name in models or bool(model and provider in providers) or listed == 1


def _near(name: str, known: Iterable[str]) -> str:
    choices = list(known)
    near = get_close_matches(name, choices, 1, 0.6)
    if near:
        return f' (did you mean "{near[0]}"?)'
    return f" (there are: {', '.join(sorted(choices)[:8])})" if choices else " (there are none)"
