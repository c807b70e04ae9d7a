"""The commands: see the package."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import httpx

import tools.answers
from tools.answers.comparing import Record, report
from tools.answers.recording import NotReady, record


def main(arguments: Iterable[str] | None = None) -> int:
    """Exit status 1: something differs, or was not answered as it should be. 2: misused."""
    parser = argparse.ArgumentParser(
        "python -m tools.answers", description=(tools.answers.__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="ask a running service")
    recording.add_argument("base_url", metavar="BASE_URL", help="e.g. http://127.0.0.1:8000")
    recording.add_argument("out", metavar="OUT.json", type=Path)
    comparing = commands.add_parser("compare", help="tell what differs")
    comparing.add_argument("records", metavar="RECORD.json", type=Path, nargs=2)
    given = parser.parse_args(None if arguments is None else list(arguments))
    if given.command == "record":
        return write_record(given.base_url, given.out)
    try:
        one, other = (read_record(path) for path in given.records)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    text, equal = report(one, other)
    sys.stdout.write(text)
    return 0 if equal else 1


def read_record(path: Path) -> Record:
    """What `write_record` wrote. Raises ``OSError``, or ``ValueError`` where it did not."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(kept, dict) or not kept:
        raise ValueError(f"{path} is no record")
    return kept


def write_record(base_url: str, out: Path) -> int:
    """Asks everything and writes a file. The exit status."""
    try:
        recorder = record(base_url)
    except (httpx.HTTPError, NotReady) as error:
        sys.stderr.write(f"{base_url}: {error}\n")
        return 1
    kept = {name: asdict(answer) for name, answer in recorder.answers.items()}
    out.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write("".join(f"{complaint}\n" for complaint in recorder.complaints))
    sys.stdout.write(f"{len(kept)} answers are in {out}.\n")
    return 1 if recorder.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
