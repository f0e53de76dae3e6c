"""``wardgate-node schema``: a first draft of a table's schema, to correct before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contract.errors import UsageError


def schema(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A CSV or Parquet file.")],
    subject: Annotated[
        str, typer.Option(help="The header of the column that identifies the subject.")
    ],
    name: Annotated[
        str | None, typer.Option(help="What the table is called here.", show_default="its file's")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="What stands between two cells.", show_default="guessed")
    ] = None,
    encoding: Annotated[str, typer.Option(help="How a CSV file is written.")] = "UTF-8",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write it.", show_default="shown"),
    ] = None,
) -> None:
    """Draft a table's schema from the file itself: types, levels and limits, to be corrected.

    What isn't clearly a number, a date or one of a few levels is declared to be dropped. Nothing is
    taken in. The draft has levels and limits of your patients: keep it here.

    Example: wardgate-node schema visits.csv --subject pid

    Example: wardgate-node schema visits.csv --subject pid --name visits -o visits.toml
    """
    from typing import get_args

    from foundation.files import write_durably
    from node.intake.drafting import draft
    from node.intake.schema import Encoding, TableSchema

    if output is not None and output.exists():
        raise UsageError(f"{output} is there already; name another file.")
    known = get_args(TableSchema.model_fields["separator"].annotation)
    if separator is not None and separator not in known:
        raise UsageError("The separator is one of , ; | and a tab.")
    if encoding not in get_args(Encoding):
        raise UsageError(f"The encoding is one of {', '.join(get_args(Encoding))}.")
    called = name or "".join(c if c.isascii() and c.isalnum() else "_" for c in table.stem.lower())
    text = draft(table, subject, called, separator=separator or "", encoding=encoding)
    if output is None:
        print(text, end="")
        return
    write_durably(output, text.encode())
    print(f"schema drafted in {output}; read and correct it")
    print(f"next: wardgate-node ingest {table} --schema {output} --dry-run")
