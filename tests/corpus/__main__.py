"""``python -m tests.corpus make OUT --seed N [--small]`` and ``score IN KEY OUT``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.corpus.generate import make
from tests.corpus.key import Key


def main() -> None:
    """Make a corpus (OUT/in, OUT/key.json), or score a de-identified copy of one."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="write OUT/in and OUT/key.json")
    maker.add_argument("out", type=Path)
    maker.add_argument("--seed", type=int, default=1)
    maker.add_argument("--small", action="store_true")
    scorer = commands.add_parser("score", help="compare OUT, made from IN, with the key")
    scorer.add_argument("source", type=Path, metavar="IN")
    scorer.add_argument("key", type=Path)
    scorer.add_argument("out", type=Path)
    scorer.add_argument("--json", type=Path, help="write all results here")
    scorer.add_argument("--failures", type=int, default=6, help="to show by category")
    scorer.add_argument("--no-dciodvfy", action="store_true")
    options = parser.parse_args()
    if options.command == "make":
        key = make(options.out / "in", options.seed, small=options.small)
        key.save(options.out / "key.json")
        print(f"{len(key.files)} files, {len(key.plants)} identifiers")
        return
    from tests.corpus.score import score
    from tests.corpus.table import table

    result = score(
        options.source, Key.load(options.key), options.out, conformance=not options.no_dciodvfy
    )
    if options.json:
        options.json.write_text(json.dumps(result.as_json(), ensure_ascii=False, indent=1))
    print(table(result, options.failures))


if __name__ == "__main__":
    main()
