"""What lies below a path, by position: the order is fixed, links are never followed.

Paths are text with Python's escapes for bytes that aren't UTF-8, because there may be millions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import NotFound


@dataclass
class Tree:
    """Files and what else was found. Positions count from 1."""

    root: str
    paths: list[str] = field(default_factory=list)
    others: dict[int, str] = field(default_factory=dict)
    """What is no regular file, by position: link, special or unreadable-folder."""

    def path(self, position: int) -> str:
        """Return where the file with this position is."""
        return self.paths[position - 1]

    def name(self, position: int) -> str:
        """Return the file's path below the root; a single file's own name."""
        path = self.paths[position - 1]
        return path[len(self.root) :].lstrip("/") or path.rpartition("/")[2]

    def __len__(self) -> int:
        return len(self.paths)


def scan(source: Path) -> Tree:
    """Return the tree below ``source``, folder by folder, sorted by name.

    ``source`` may be a link or a single file. ``NotFound`` when it doesn't exist.
    """
    if not source.exists():
        raise NotFound("IN does not exist.")
    root = str(source.resolve())
    tree = Tree(root)
    if not source.is_dir():
        _add(tree, root, "" if source.is_file() else "special")
        return tree
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            _add(tree, folder, "unreadable-folder")
            continue
        folders = []
        for entry in inside:
            if entry.is_symlink():
                _add(tree, entry.path, "link")
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                _add(tree, entry.path, "" if entry.is_file(follow_symlinks=False) else "special")
        waiting.extend(reversed(folders))
    return tree


def _add(tree: Tree, path: str, other: str) -> None:
    tree.paths.append(path)
    if other:
        tree.others[len(tree.paths)] = other
