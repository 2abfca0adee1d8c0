"""Lines for people, on standard error, flushed at once so that a log file is never behind."""

import sys


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def warn_loudly(lines: list[str]) -> None:
    """A frame around what nobody should overlook."""
    width = max(len(line) for line in lines)
    log("*" * (width + 4))
    for line in lines:
        log(f"* {line.ljust(width)} *")
    log("*" * (width + 4))
