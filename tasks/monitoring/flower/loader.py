"""Flower's templates and ours. Flower's navigation bar gets our tabs.

Every value in a template is escaped and loses its control characters. No page contains an inline script: the content
security policy (application.py) would block it.
"""

import re
from pathlib import Path
from typing import Any

from tornado import template
from tornado.escape import xhtml_escape

from workers.plain_text import plain

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"

#: The place in Flower's navbar.html before which our tabs go: the end of its first list.
_PLACE = "</ul>"

_TAB = """
        <li class="nav-item">
          <a class="nav-link{{% if active_tab == '{name}' %}} active{{% end %}}"
            href="{{{{ reverse_url('{name}') }}}}"
            {{% if active_tab == '{name}' %}}aria-current="page"{{% end %}}>{words}</a>
        </li>"""

_SCRIPT = (
    "<script src=\"{{ reverse_url('overnight-static', 'autorefresh.js') }}\" data-autorefresh=\"{{ autorefresh }}\">"
    "</script>"
)

#: Our pages: the name of the tab and handler -> its label.
TABS = {"workflows": "Workflows", "limits": "Limits"}


class Loader(template.Loader):
    """Loads a template from our folder or, if we have none of that name, from Flower's."""

    def __init__(self, flowers: str) -> None:
        super().__init__(flowers, autoescape="shown", namespace={"shown": shown})
        self.flowers = Path(flowers)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Return `name` as it is: neither folder has subfolders."""
        del parent_path
        return name

    def _create_template(self, name: str) -> template.Template:
        for folder in (TEMPLATES, self.flowers):
            path = folder / name
            if path.is_file():
                source = _CHANGES.get(name, str)(path.read_text(encoding="utf-8"))
                return template.Template(source, name=name, loader=self)
        raise FileNotFoundError(name)


def shown(value: Any) -> str:
    """`value` as a page shows it: plain text, escaped."""
    words = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return xhtml_escape(plain(words))


def without_script(workers: str) -> str:
    """Flower's list of workers, with its inline script moved to a file."""
    found, times = re.subn(
        r"<script type=\"text/javascript\">\s*var autorefresh = .*?</script>", _SCRIPT, workers, flags=re.DOTALL
    )
    if times != 1:
        raise ValueError("Flower's workers.html has no script that sets autorefresh: is this Flower 2.2?")
    return found


def with_tabs(navbar: str) -> str:
    """Flower's navigation bar, with our tabs after its own."""
    before, place, after = navbar.partition(_PLACE)
    if not place:
        raise ValueError("Flower's navbar.html has no list for our tabs: is this Flower 2.2?")
    tabs = "".join(_TAB.format(name=name, words=words) for name, words in TABS.items())
    return f"{before.rstrip()}{tabs}\n      {place}{after}"


#: Templates of Flower's -> how we change them.
_CHANGES = {"navbar.html": with_tabs, "workers.html": without_script}
