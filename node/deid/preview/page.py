"""The preview as one self-contained page: no script, nothing loaded, every value escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path

from contract.documents import printable
from foundation.web.languages import Texts, load_texts
from node.deid.preview.changes import Line
from node.deid.preview.frame import Pictures

_MOST_CHARACTERS = 2000
_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:1.5rem;color:#1b1b1b;background:#fff}
.warning{background:#7a1010;color:#fff;padding:.6rem .8rem;font-weight:600}
.refused{background:#fff3cd;padding:.6rem .8rem}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th,td{border-bottom:1px solid #ddd;padding:.2rem .4rem;text-align:left;vertical-align:top;
overflow-wrap:anywhere}
th{position:sticky;top:0;background:#f3f3f3}
td.tag{font-family:monospace;white-space:nowrap}
tr.k{display:none;color:#777}
#kept:checked~table tr.k{display:table-row}
tr.x .before,tr.d .before,tr.u .before,tr.z .before,tr.c .before{background:#fdecea}
tr.d .after,tr.u .after,tr.c .after{background:#e8f5e9}
figure{display:inline-block;margin:0 1rem 1rem 0;max-width:46%}
img{max-width:100%;image-rendering:pixelated}
"""


def texts(language: str) -> Texts:
    """Return the page's texts in one of the languages that there are."""
    return load_texts([Path(__file__).parent])[language]


def page(
    lines: Sequence[Line], pictures: Pictures | None, profile: str, reason: str, said: Texts
) -> str:
    """Return the page; ``reason`` says why the file would be left out, "" if it wouldn't be."""
    return "".join(_page(lines, pictures, profile, reason, said))


def _page(
    lines: Sequence[Line], pictures: Pictures | None, profile: str, reason: str, said: Texts
) -> Iterator[str]:
    title = said("preview.title")
    yield (
        f'<!doctype html><html lang="{said.language}"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{title}</h1><p class="warning">{said("preview.warning")}</p>'
        f"<p>{said('preview.profile')}: {html.escape(profile)}</p>"
    )
    if reason:
        yield f'<p class="refused">{html.escape(said("preview.refused", reason=reason))}</p>'
    if pictures is not None:
        place = said(
            "preview.frame", frame=pictures.frame, frames=pictures.frames, boxes=pictures.boxes
        )
        yield f"<h2>{place}</h2>"
        yield "<div>"
        for key, png in (("before", pictures.before), ("after", pictures.after)):
            name = said(f"preview.{key}")
            data = base64.b64encode(png).decode()
            yield (
                f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
                f"<figcaption>{name}</figcaption></figure>"
            )
        yield "</div>"
    yield f'<input type="checkbox" id="kept"> <label for="kept">{said("preview.kept")}</label>'
    heads = [
        ("tag", "8%"),
        ("attribute", "20%"),
        ("action", "8%"),
        ("by", "12%"),
        ("before", "26%"),
        ("after", "26%"),
    ]
    cells = "".join(
        f'<th style="width:{size}">{said("preview." + key)}</th>' for key, size in heads
    )
    yield f"<table><thead><tr>{cells}</tr></thead><tbody>"
    for line in lines:
        yield _row(line, said)
    yield "</tbody></table></body></html>"


def _row(line: Line, said: Texts) -> str:
    kind = {"+": "p"}.get(line.action, line.action.lower())
    by = said.term("by", line.by) if line.by else ""
    return (
        f'<tr class="{kind}"><td class="tag">{line.tag >> 16:04x},{line.tag & 0xFFFF:04x}</td>'
        f'<td style="padding-left:{0.4 + line.depth * 1.2:.1f}rem">{_shown(line.name)}</td>'
        f"<td>{line.action} {said.term('action', line.action)}</td><td>{by}</td>"
        f'<td class="before">{_shown(line.before)}</td><td class="after">{_shown(line.after)}</td>'
        "</tr>"
    )


def _shown(text: str | None) -> str:
    return "" if text is None else html.escape(printable(text, _MOST_CHARACTERS))
