"""A recipe's code read without running it: what a steward should look at before approving it.

Guarantee: none. Reading finds what is written plainly; code that means to hide can. What holds a
recipe is the sandbox; these notes only say where to begin. Source: Python's ``ast``.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

LONG_TEXT = 400
"""A literal of more characters than this without a blank is noted."""
RANDOM_BITS = 4.5
"""Bits a character above which such a literal looks packed (Shannon's entropy)."""
MAX_NOTES = 500

TOPICS: Mapping[str, str] = {
    "network": "opens connections",
    "files": "opens files outside the folders that it is given",
    "process": "starts programs or processes",
    "serialisation": "reads formats that run code when they are loaded",
    "dynamic": "makes code while it runs, or reaches names that aren't written out",
    "native": "uses threads, foreign memory or machine code",
    "output": "computes the names of what it sends",
    "hidden": "holds what a reader can't read",
}

_MODULES: Mapping[str, tuple[str, ...]] = {
    "network": (
        "socket", "ssl", "asyncio", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp",
        "ftplib", "smtplib", "poplib", "imaplib", "telnetlib", "paramiko", "grpc", "websockets",
        "xmlrpc", "socketserver", "boto3", "wandb", "mlflow", "huggingface_hub",
    ),
    "process": ("subprocess", "multiprocessing", "pty", "pexpect", "sh", "signal"),
    "serialisation": (
        "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve",
        "jsonpickle",
    ),
    "dynamic": ("importlib", "runpy", "code", "codeop", "imp", "pkgutil", "zipimport"),
    "native": ("ctypes", "cffi", "mmap", "threading", "_thread", "concurrent", "gc", "numba"),
    "hidden": ("base64", "binascii", "zlib", "bz2", "lzma", "codecs", "gzip"),
}  # fmt: skip
_CALLS: Mapping[str, tuple[str, ...]] = {
    "process": (
        "os.system", "os.popen", "os.fork", "os.forkpty", "os.kill", "os.posix_spawn",
        "os.execv", "os.execve", "os.execvp", "os.execl", "os.spawnv", "os.spawnl",
    ),
    "serialisation": (
        "torch.load", "torch.jit.load", "torch.hub.load", "numpy.load", "np.load",
        "pandas.read_pickle", "pd.read_pickle", "yaml.load", "yaml.unsafe_load",
    ),
    "dynamic": (
        "eval", "exec", "compile", "__import__", "globals", "locals", "vars", "setattr",
        "delattr", "breakpoint", "sys.settrace", "sys.setprofile", "types.FunctionType",
        "types.CodeType", "types.ModuleType",
    ),
    "native": ("os.open", "os.memfd_create", "os.mmap"),
    "files": (
        "os.walk", "os.listdir", "os.scandir", "glob.glob", "glob.iglob", "shutil.copy",
        "shutil.copytree", "shutil.make_archive", "os.symlink", "os.link", "os.chmod",
        "tempfile.mkstemp",
    ),
}  # fmt: skip
_NAMES: Mapping[str, str] = {name: topic for topic, names in _CALLS.items() for name in names}
_ROOTS: Mapping[str, str] = {name: topic for topic, names in _MODULES.items() for name in names}
_GIVEN = ("/release", "/tmp", "/drafts", "/weights", "data-path")  # noqa: S108 (in the sandbox)
_SPECIAL = ("__globals__", "__builtins__", "__subclasses__", "__code__", "__mro__", "__bases__",
            "__reduce__", "__loader__", "__dict__", "f_globals", "f_back")  # fmt: skip


@dataclass(frozen=True, order=True)
class Note:
    """One place that is worth a look. ``line`` is 0 for a whole file."""

    file: str
    line: int
    topic: str
    what: str


def read_code(files: Mapping[str, bytes]) -> list[Note]:
    """Return the notes on a bundle's files, by file and line, at most ``MAX_NOTES``."""
    notes: set[Note] = set()
    for name, content in files.items():
        if name.endswith((".py", ".pyi")):
            notes.update(_python(name, content))
        elif _is_binary(content):
            notes.add(Note(name, 0, "hidden", "is no text"))
        elif name.endswith((".pth", ".so", ".pyc", ".pyd", ".sh", ".dll")):
            notes.add(Note(name, 0, "native", "is code that isn't Python's source"))
    return sorted(notes)[:MAX_NOTES]


def _is_binary(content: bytes) -> bool:
    if b"\0" in content:
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


def _python(name: str, content: bytes) -> Iterator[Note]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield Note(name, 0, "hidden", "can't be read as Python")
        return
    if not content.isascii():
        text = content.decode(errors="replace")
        odd = [c for c in text if c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200b\u200f"]
        if odd:
            # Boucher and Anderson, Trojan Source (2021): text that a reader sees in another order.
            yield Note(name, 0, "hidden", "has characters that change how it is shown")
    reader = _Reader(name)
    try:
        reader.visit(tree)
    except RecursionError:
        yield Note(name, 0, "hidden", "is nested too deep to be read")
    yield from reader.notes
    if any(len(line) > 1000 for line in content.splitlines()):
        yield Note(name, 0, "hidden", "has lines of over 1,000 characters")


class _Reader(ast.NodeVisitor):
    """Walks one module. ``aliases`` are the names under which modules and functions go in it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.notes: list[Note] = []
        self.aliases: dict[str, str] = {}

    def note(self, node: ast.AST, topic: str, what: str) -> None:
        line = getattr(node, "lineno", 0)
        self.notes.append(Note(self.file, line, topic, what[:120]))

    # ---- imports -------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.aliases[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )
            self._module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        for alias in node.names:
            self.aliases[alias.asname or alias.name] = f"{module}.{alias.name}"
            found = _NAMES.get(f"{module}.{alias.name}")
            if found:
                self.note(node, found, f"from {module} import {alias.name}")
        if not node.level:
            self._module(node, module)

    def _module(self, node: ast.AST, name: str) -> None:
        topic = _ROOTS.get(name.split(".", maxsplit=1)[0])
        if topic:
            self.note(node, topic, f"import {name}")

    # ---- calls ---------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        called = self._called(node.func)
        topic = _NAMES.get(called)
        if topic:
            self.note(node, topic, f"{called}()")
        elif called in ("open", "io.open", "pathlib.Path", "Path"):
            self._path(node, called)
        elif called in ("getattr", "operator.attrgetter", "hasattr"):
            if not all(isinstance(a, ast.Constant) for a in node.args[1:2]):
                self.note(node, "dynamic", f"{called}() of a computed name")
        elif called.endswith("torch.load"):
            self.note(node, "serialisation", f"{called}()")
        elif called.split(".")[-1] in ("MetricRecord", "RecordDict", "ArrayRecord"):
            self._sent(node)
        self.generic_visit(node)

    def _called(self, node: ast.expr) -> str:
        """Return the dotted name of what is called, aliases resolved; empty when it is none."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.aliases.get(node.id, node.id))
        return ".".join(reversed(parts))

    def _path(self, node: ast.Call, called: str) -> None:
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant):
            text = str(first.value)
            if text.startswith(("/", "~", "..")) and not text.startswith(_GIVEN):
                self.note(node, "files", f"{called}({text!r})")
        elif called not in ("pathlib.Path", "Path"):
            self.note(node, "files", f"{called}() of a computed path")

    def _sent(self, node: ast.Call) -> None:
        for argument in node.args:
            if isinstance(argument, ast.Dict):
                self._keys(argument)
            elif isinstance(argument, ast.DictComp):
                self.note(argument, "output", "what is sent is named by a loop")
        for keyword in node.keywords:
            if keyword.arg is None:
                self.note(node, "output", "what is sent is named by a computed dictionary")

    def _keys(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None or not isinstance(key, ast.Constant):
                self.note(node, "output", "what is sent has a computed name")
            if isinstance(value, ast.Dict):
                self._keys(value)

    # ---- names and literals --------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _SPECIAL:
            self.note(node, "dynamic", f".{node.attr}")
        elif self._called(node) == "os.environ":
            self.note(node, "files", "os.environ")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        named = self._called(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else ""
        if (
            isinstance(node.ctx, ast.Store)
            and "metric" in named.lower()
            and not isinstance(node.slice, ast.Constant)
        ):
            self.note(node, "output", f"{named}[...] = of a computed name")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bytes):
            if len(value) > LONG_TEXT:
                self.note(node, "hidden", f"{len(value)} bytes as a literal")
        elif isinstance(value, str) and len(value) > LONG_TEXT and " " not in value.strip():
            kind = "packed text" if _bits(value) > RANDOM_BITS else "text without a blank"
            self.note(node, "hidden", f"{len(value)} characters of {kind}")
        elif isinstance(value, int) and value.bit_length() > 512:
            self.note(node, "hidden", f"a number of {value.bit_length()} bits")

    def visit_List(self, node: ast.List) -> None:
        self._many(node, node.elts)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        self._many(node, node.elts)

    def _many(self, node: ast.AST, elements: Sequence[ast.expr]) -> None:
        if len(elements) > LONG_TEXT and all(isinstance(e, ast.Constant) for e in elements):
            self.note(node, "hidden", f"{len(elements)} literals in a row")
        self.generic_visit(node)


def _bits(text: str) -> float:
    """Return Shannon's entropy of a text, in bits a character."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
