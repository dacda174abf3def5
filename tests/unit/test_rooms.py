"""The rules of the rooms: maps are complete, imports point down, files and functions stay short."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("limits", "workers", "tasks")

#: Lowest first: a file imports from its own room and from the rooms before it.
ROOMS = (
    "limits.errors limits.keys",
    "limits.client",
    "limits",
    "workers",
    "tasks.answers",
    "tasks.jobs",
    "tasks.agents",
    "tasks.batches",
    "tasks.schedules",
    "tasks.monitoring",
    "tasks.server",
    "tasks.console",
    "tasks",
)

MAX_FILE, MAX_FUNCTION = 300, 40

SCENE = "one scene: each step needs what the step before it left"
HISTORY = "closures over one random history"
SCRIPT = "a script, read from top to bottom"

#: Longer than that, each with its reason.
LONG_FILES: dict[str, str] = {
    "limits/keys.py": "one list: every Redis key",
    "tests/unit/limits/mutations.py": "one table of mutations: file, what stands there, what is put instead",
}
LONG_FUNCTIONS: dict[str, str] = {
    "bench/batch.py:plain": SCRIPT,
    "bench/batch.py:told": "a report's text",
    "bench/fairness.py:main": SCRIPT,
    "bench/idle.py:main": SCRIPT,
    "bench/profile.py:main": SCRIPT,
    "bench/scale.py:stepwise": "the steps of a job, one after the other",
    "bench/workers.py:stock": SCRIPT,
    "tasks/console/limits.py:limits": "Typer's options, one a line",
    "tests/chaos/test_agents_under_fire.py:test_kills_and_a_pause_cost_only_calls_in_flight": SCENE,
    "tests/chaos/test_batch.py:test_a_collector_and_a_feeder_stop_for_90_seconds": SCENE,
    "tests/chaos/test_batch.py:test_everything_is_killed_in_turn": SCENE,
    "tests/integration/test_answers_in_the_wild.py:answer": "a table: one refusal a branch",
    "tests/integration/test_blame_in_a_worker.py:test_each_refusal_stops_what_it_is_about_and_nothing_else": SCENE,
    "tests/integration/test_mutated_messages.py:test_every_message_is_run_refused_or_set_aside": SCENE,
    "tests/simulator/refusals.py:throttled": "a table: one wire format a branch",
    "tests/simulator/service.py:_judge": "the order in which a provider checks a request",
    "tests/unit/limits/histories/admissions.py:admissions": HISTORY,
    "tests/unit/limits/histories/budgets.py:budgets": HISTORY,
    "tests/unit/limits/histories/circuits.py:circuits": HISTORY,
    "tests/unit/limits/histories/dimensions.py:arithmetic": HISTORY,
    "tests/unit/limits/histories/dimensions.py:dimensions": HISTORY,
    "tests/unit/limits/histories/headrooms.py:headrooms": HISTORY,
    "tests/unit/limits/histories/joined.py:joined": HISTORY,
    "tests/unit/limits/histories/levels.py:end": HISTORY,
    "tests/unit/limits/histories/levels.py:levels": HISTORY,
    "tests/unit/limits/histories/seconds.py:seconds": HISTORY,
    "tests/unit/limits/histories/windows.py:windows": HISTORY,
    "tests/unit/limits/mutations.py:all_mutations": "one table of mutations",
    "workers/celery.py:configuration": "a table of settings, one a line with its reason",
    "workers/providers/failures.py:classify": "a decision table",
}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in python_files(*PACKAGES)}


@cache
def imports(module: str) -> frozenset[str]:
    """The project's own modules that a module imports, wherever in it, for types too."""
    found = set()
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in modules() else node.module)
    return frozenset((found & modules().keys()) - {module})


def room(module: str) -> int:
    """The index in ROOMS of the most specific room that holds the module."""
    matches = [
        (len(name), index)
        for index, names in enumerate(ROOMS)
        for name in names.split()
        if module == name or module.startswith(f"{name}.")
    ]
    return max(matches)[1]


def test_imports_point_down() -> None:
    upward = [
        f"{module} imports {other}"
        for module in modules()
        for other in sorted(imports(module))
        if room(other) > room(module) and other not in PACKAGES
    ]
    assert upward == []


def test_lua_includes_point_down() -> None:
    upward = [
        f"{script.relative_to(ROOT)} includes {included}"
        for package in PACKAGES
        for script in (ROOT / package).rglob("*.lua")
        for included in re.findall(r"^--@include (\S+)", script.read_text(), re.MULTILINE)
        if room(included.replace("/", ".")) > room(module_name(script))
    ]
    assert upward == []


def circles() -> Iterator[list[str]]:
    """Each circle of imports once, from its first module by name."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield path[path.index(module) :]
            return
        if module in done:
            return
        for other in sorted(imports(module)):
            yield from visit(other, [*path, module])
        done.add(module)

    for module in sorted(modules()):
        yield from visit(module, [])


def test_no_files_import_each_other_in_a_circle() -> None:
    assert [" -> ".join(circle) for circle in circles()] == []


def packages() -> list[Path]:
    return sorted(path.parent for path in modules().values() if path.name == "__init__.py")


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_map_of_a_package_lists_its_files(package: Path) -> None:
    docstring = ast.get_docstring(tree(package / "__init__.py")) or ""
    listed = re.findall(r"^ *([\w/]+(?:\.py|\.lua|/)) {2,}\S", docstring, re.MULTILINE)
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    scripts = {str(path.relative_to(package)) for path in package.glob("lua/**/*.lua")}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(listed) == sorted(files | scripts | folders)


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for folder in (*PACKAGES, "tests", "bench")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".lua"} and (lines := path.read_text().count("\n")) > MAX_FILE
    }
    assert long.keys() == LONG_FILES.keys(), long


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": size
        for path in python_files(*PACKAGES, "tests", "bench")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    }
    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_tests_import_nothing_from_other_tests() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in python_files("tests", "bench")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and re.search(r"^tests\..*\btest_\w+$", node.module or "")
    }
    assert found == set()
