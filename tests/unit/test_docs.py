"""Whatever the docs name exists: files, links, headings, and the messages that troubleshooting explains."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])

#: How a path that means a file of the repository begins.
FOLDERS = ("limits", "workers", "tasks", "tests", "bench", "docs", "deploy", "examples")

#: What stands for a name of the reader's own in a path.
PLACEHOLDER = re.compile(r"\b(NAME|FOLDER)\b")

#: The README's longest, in words outside of code blocks.
README_WORDS = 750

#: Stands for the words that differ from message to message in a heading of troubleshooting.
GAP = "…"


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_that_are_named_exist(page: Path) -> None:
    text = without_code(page)
    if page.name == "CHANGELOG.md":
        return
    paths = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])", text)
    assert [path for path in paths if not PLACEHOLDER.search(path) and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    used = re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))
    assert [name for name in used if name not in targets] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+)", without_code(page))
        todo += [(page.parent / link).resolve() for link in links if "://" not in link]
    assert [str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md") if page not in reached] == []


def test_the_readme_is_short() -> None:
    assert len(without_code(ROOT / "README.md").split()) <= README_WORDS


@cache
def source() -> str:
    """The text of all packages, with string literals that continue on the next line joined."""
    files = sorted(path for folder in ("limits", "workers", "tasks") for path in (ROOT / folder).rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in files))


def symptoms() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `([^`]*\w{3} \w[^`]*)`", page, re.MULTILINE)


@pytest.mark.parametrize("symptom", symptoms())
def test_symptoms_are_the_words_of_the_code(symptom: str) -> None:
    for part in symptom.split(GAP):
        words = part.strip(" :,()")
        if words.startswith("requests a minute"):
            words = words.removesuffix(" at")
        assert words in source(), words
