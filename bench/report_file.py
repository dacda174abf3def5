"""Where a benchmark's report goes."""

from pathlib import Path


def publish(text: str, file: Path | None) -> None:
    """Print a report, and write it to the file that `--report` names."""
    print(text)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
