"""Imports a user's modules, which are installed, or lie in the working folder or beside overnight.toml."""

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from workers.config.settings import Settings


def import_module(module: str, settings: Settings) -> ModuleType:
    """Import a module. Raises whatever its code raises."""
    for folder in (Path.cwd(), *([settings.file.parent] if settings.file else [])):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last, so that it shadows no installed package
    return importlib.import_module(module)


def import_error(exc: Exception) -> str:
    """What went wrong, and in which file and line."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if "importlib" not in frame.filename]
    if isinstance(exc, SyntaxError):
        return f"{type(exc).__name__}: {exc}"
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 2 else ""  # noqa: PLR2004 - ours are two
    fix = "" if where else "; the module must lie beside the configuration, in the working folder, or be installed"
    return f"{type(exc).__name__}: {exc}{where}{fix}"
