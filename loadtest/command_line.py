"""What the commands of measurements have in common."""

import argparse
from pathlib import Path
from typing import Any

import msgspec


def check_ranges(parser: argparse.ArgumentParser, *ranges: tuple[str, float, float, float]) -> None:
    """End the program with a message if an option's value is not within its range.

    Each range: the option, its value, the least and the most that is allowed.
    """
    for flag, value, least, most in ranges:
        if not least <= value <= most:
            parser.error(f"{flag} is {value}, allowed is {least} to {most}")


def write_json(path: Path, figures: Any) -> None:
    """Write figures to a file, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
