"""Something done as soon as a module is imported, by whomever, and never if it isn't."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

Then = Callable[[ModuleType], None]


def when_imported(name: str, what: str, then: Then) -> None:
    """Call ``then`` with a module: now, or once it has been imported.

    A later call for the same ``what`` takes an earlier one's place.
    """
    if name in sys.modules:
        then(sys.modules[name])
        return
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if not (isinstance(finder, _WhenImported) and finder.what == what)
    ]
    sys.meta_path.insert(0, _WhenImported(name, what, then))


class _WhenImported(MetaPathFinder):
    """Finds one module, once, with a loader that does something after it was loaded."""

    def __init__(self, name: str, what: str, then: Then) -> None:
        self.what = what
        self._name = name
        self._then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Following(spec.loader, self._then)
        return spec


class _Following(Loader):
    def __init__(self, inner: Loader, then: Then) -> None:
        self._inner = inner
        self._then = then

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        self._then(module)
