"""Configuration files from templates: in Python, and as a command line."""

import argparse
import os
import shutil
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from dotenv import dotenv_values

from deploy.settings import ConfigurationError, Environment

CANNOT_START = 78
"""Exit code when a start would fail again in the same way (EX_CONFIG in sysexits.h)."""


class ConfTemplate(string.Template):
    """A template in which only `@{name}` is replaced; a lone `@` or `$` means itself."""

    delimiter = "@"
    pattern = r"""
        @(?:
            \{(?P<braced>[a-z_]+)\}
          | (?P<invalid>\{)          # `@{` that doesn't go on as above
          | (?P<escaped>(?!))        # the two other groups string.Template asks for: never
          | (?P<named>(?!))
        )
    """  # type: ignore[assignment]  # typeshed knows only the compiled form


def render_files(
    templates: Iterable[Path], substitutions: Mapping[str, str | int], target_dir: Path
) -> None:
    """Write the templates, filled in, into `target_dir`; other files with their endings go.

    The directory and the files are readable for their owner only: they contain passwords.
    """
    templates = list(templates)
    target_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    target_dir.chmod(0o700)
    for ending in {template.suffix for template in templates}:
        for old in target_dir.glob(f"*{ending}"):
            old.unlink()
    for template in templates:
        text = ConfTemplate(template.read_text()).substitute(substitutions)
        target = target_dir / template.name
        target.touch(mode=0o600)
        target.write_text(text)


def run_command(
    module: str,
    description: str | None,
    write: Callable[[Environment, Path], None],
    arguments: Sequence[str] | None,
) -> int:
    """The command line that writes a configuration; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--values",
        type=Path,
        help="file of settings, NAME=value (default: the environment alone, which always wins)",
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write, all of it")
    parser.add_argument("--owner", help="user whom the files shall belong to")
    options = parser.parse_args(arguments)
    try:
        write(_settings(options.values), options.out)
        if options.owner is not None:
            _give_to(options.owner, options.out)
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_START
    return 0


def _settings(file: Path | None) -> dict[str, str]:
    """The environment, on top of what the file says."""
    if file is None:
        return dict(os.environ)
    if not file.is_file():
        raise ConfigurationError(f"--values is {str(file)!r}: there is no such file")
    named = {name: value or "" for name, value in dotenv_values(file, interpolate=False).items()}
    return {**named, **os.environ}


def _give_to(owner: str, directory: Path) -> None:
    try:
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, user=owner)
    except LookupError as error:
        raise ConfigurationError(f"--owner is {owner!r}: there is no such user") from error
