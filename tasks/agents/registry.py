"""Which agents there are: coroutines marked with `@agent`, in the modules that `agents = [...]` names.

Modules are imported from the installed packages, the working folder, or the folder of overnight.toml.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from workers.config.fields import AGENT_NAME
from workers.config.settings import Settings, SettingsError
from workers.models.routing import NoRoute, NotConfigured
from workers.user_modules import import_error, import_module

if TYPE_CHECKING:
    from tasks.agents.llm import Llm  # commands check agents' names; only workers need the runtime below this

AgentFunction = Callable[[Any, "Llm"], Awaitable[Any]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. `location` is the module and name of its function, for messages."""

    name: str
    function: AgentFunction
    location: str


_agents: dict[str, Agent] = {}
_loaded: set[str] = set()


@overload
def agent(function: F, /) -> F: ...


@overload
def agent(*, name: str | None = None) -> Callable[[F], F]: ...


def agent(function: Any = None, /, *, name: str | None = None) -> Any:
    """Mark a coroutine as an agent: `async def NAME(body, llm)`, which batch lines call at `/agents/NAME`.

    `body` is the line's body, `llm` the client (tasks.agents.llm.Llm). What the coroutine returns, as JSON, is the
    line's answer. TypeError or ValueError if the function cannot be an agent, or its name is taken.
    """
    return partial(_register, name) if function is None else _register(name, function)


def _register(name: str | None, function: F) -> F:
    location = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
    is_coroutine: bool = inspect.iscoroutinefunction(function)
    if not is_coroutine:
        raise TypeError(f"@agent: {location} must be a coroutine: async def …(body, llm)")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise TypeError(f"@agent: {location} must take two arguments: the line's body, and llm") from None
    name = function.__name__ if name is None else name
    if not AGENT_NAME.fullmatch(name):
        raise ValueError(f"@agent: {location}: {name!r} is no name: letters, digits, - _ . only, 128 at most")
    before = _agents.get(name)
    if before is not None and before.location != location:
        raise ValueError(f"@agent: two agents are called {name!r}: {before.location} and {location}")
    _agents[name] = Agent(name, function, location)
    return function


def load(settings: Settings) -> Mapping[str, Agent]:
    """The agents of the configured modules, by name; SettingsError if a module cannot be imported."""
    wrong = []
    for module in settings.agents:
        if module not in _loaded:
            try:
                import_module(module, settings)
            except Exception as exc:  # noqa: BLE001 - a user's module can raise anything
                wrong.append(f'{settings.file}: agents: "{module}" cannot be imported: {import_error(exc)}')
            else:
                _loaded.add(module)
    if wrong:
        raise SettingsError(wrong)
    return _agents


def find(settings: Settings, name: str, workflow: str) -> Agent:
    """The agent called `name`. NotConfigured if it doesn't exist, NoRoute if the workflow may not call it."""
    found = load(settings).get(name)
    if found is not None and not settings.may_call(workflow, name):
        fix = f'add "{name}" to agents in its table, or remove agents from all workflows'
        raise NoRoute(f"jobs of workflow {workflow!r:.80} may not call agent {name!r}: {fix}")
    if found is not None:
        return found
    shown = f'"{name}"' if AGENT_NAME.fullmatch(name) else "of that name"
    if not settings.agents:
        fix = 'name the module that holds it in agents = ["…"] of the configuration'
        raise NotConfigured(f"there is no agent {shown}: {fix}")
    near = get_close_matches(name, _agents, 3, 0.6)
    if near:
        raise NotConfigured(f"there is no agent {shown}; did you mean {' or '.join(near)}?")
    known = ", ".join(sorted(_agents)) or "none"
    raise NotConfigured(f"there is no agent {shown} in {', '.join(settings.agents)}; there are: {known}")
