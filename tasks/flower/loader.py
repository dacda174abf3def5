"""Flower's templates and ours: ours are found beside them, and its navigation bar gets our tabs."""

from pathlib import Path

from tornado import template

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

#: Our pages, by the name of their tab and handler.
TABS = {"workflows": "Workflows", "limits": "Limits"}


class Loader(template.Loader):
    """Finds a template in our folder, else in Flower's."""

    def __init__(self, flowers: str) -> None:
        super().__init__(flowers, autoescape="xhtml_escape")
        self.flowers = Path(flowers)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Names are the files' own: no template of ours or Flower's lies in a folder."""
        del parent_path
        return name

    def _create_template(self, name: str) -> template.Template:
        for folder in (TEMPLATES, self.flowers):
            path = folder / name
            if path.is_file():
                source = path.read_text(encoding="utf-8")
                return template.Template(with_tabs(source) if name == "navbar.html" else source, name=name, loader=self)
        raise FileNotFoundError(name)


def with_tabs(navbar: str) -> str:
    """Flower's navigation bar with our tabs behind its own."""
    before, place, after = navbar.partition(_PLACE)
    if not place:
        raise ValueError("Flower's navbar.html has no list to put our tabs into: is this Flower 2.2?")
    tabs = "".join(_TAB.format(name=name, words=words) for name, words in TABS.items())
    return f"{before.rstrip()}{tabs}\n      {place}{after}"
