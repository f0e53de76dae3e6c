"""What is shown of an answer: as text for a terminal of 80 columns, as HTML for a notebook."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

WIDTH, NOTEBOOK_WIDTH = 80, 100


def as_text(*shown: RenderableType) -> str:
    """Return what fits a terminal."""
    console = Console(width=WIDTH, markup=False, file=io.StringIO())
    with console.capture() as captured:
        for one in shown:
            console.print(one)
    return captured.get()


def as_html(*shown: RenderableType) -> str:
    """Return what a notebook shows; text in it is escaped."""
    console = Console(record=True, width=NOTEBOOK_WIDTH, markup=False, file=io.StringIO())
    for one in shown:
        console.print(one)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
