"""Flower's templates and ours: ours are found beside them, and its navigation bar gets our tabs.

Whatever a template shows is escaped and loses its control characters. No page holds a script in itself: the content
security policy (door.py) would keep it from running.
"""

import re
from pathlib import Path
from typing import Any

from tornado import template
from tornado.escape import xhtml_escape

from workers.plain_text import plain

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"

#: Before this place in Flower's navbar.html our tabs go: the first list ends with its own.
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

#: Our pages, by the name of their tab and handler.
TABS = {"workflows": "Workflows", "limits": "Limits"}


class Loader(template.Loader):
    """Finds a template in our folder, else in Flower's."""

    def __init__(self, flowers: str) -> None:
        super().__init__(flowers, autoescape="shown", namespace={"shown": shown})
        self.flowers = Path(flowers)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Names are the files' own: no template of ours or Flower's lies in a folder."""
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
    """A value as it stands in a page."""
    words = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return xhtml_escape(plain(words))


def without_script(workers: str) -> str:
    """Flower's list of workers, with the one script that it holds in a file of its own."""
    found, times = re.subn(
        r"<script type=\"text/javascript\">\s*var autorefresh = .*?</script>", _SCRIPT, workers, flags=re.DOTALL
    )
    if times != 1:
        raise ValueError("Flower's workers.html holds no script that sets autorefresh: is this Flower 2.2?")
    return found


def with_tabs(navbar: str) -> str:
    """Flower's navigation bar with our tabs behind its own."""
    before, place, after = navbar.partition(_PLACE)
    if not place:
        raise ValueError("Flower's navbar.html has no list to put our tabs into: is this Flower 2.2?")
    tabs = "".join(_TAB.format(name=name, words=words) for name, words in TABS.items())
    return f"{before.rstrip()}{tabs}\n      {place}{after}"


#: How Flower's own templates are changed.
_CHANGES = {"navbar.html": with_tabs, "workers.html": without_script}
