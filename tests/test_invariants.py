"""What must hold of all the code at once, whoever writes the next line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import errors
from contract.errors import WardgateError, exit_codes

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("contract", "foundation", "learning", "node", "coordinator", "researcher")
GENERATED = {"wire_pb2.py", "wire_pb2_grpc.py"}
MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    if path.name not in GENERATED
)  # fmt: skip

MODULES_THAT_EVALUATE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "torch.load", "yaml.load", "yaml.unsafe_load", "np.load", "numpy.load", "pl.read_ipc_pickle",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "load_insecure"}
FORBIDDEN_ARGUMENTS = {("shell", True), ("verify", False), ("allow_pickle", True),
                       ("weights_only", False), ("check_hostname", False)}  # fmt: skip


def name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return ""


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES_THAT_EVALUATE)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES_THAT_EVALUATE:
                yield str(node.module)
        elif isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
                yield name
            for keyword in node.keywords:
                if isinstance(keyword.value, ast.Constant):
                    pair = (keyword.arg, keyword.value.value)
                    if any(pair[0] == a and pair[1] is v for a, v in FORBIDDEN_ARGUMENTS):
                        yield f"{name}({keyword.arg}={keyword.value.value!r})"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_evaluates_nothing_and_says_what_it_is_about(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert list(offences(tree)) == []
    described = ast.get_docstring(tree)
    assert described or not path.read_text().strip()


def test_the_search_for_offences_finds_them() -> None:
    for code in (
        "import pickle", "from dill import loads", "eval('1')", "exec(x)", "torch.load(f)",
        "archive.extractall(p)", "run(c, shell=True)", "get(u, verify=False)", "yaml.load(f)",
        "np.load(f, allow_pickle=True)", "os.system('x')", "import pickle.x as y",
    ):  # fmt: skip
        assert list(offences(ast.parse(code))), code


def test_the_generated_wire_is_that_of_the_proto_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}",
         f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}", "contract/wire.proto"],
        check=True, cwd=ROOT,
    )  # fmt: skip
    made = sorted((tmp_path / "contract").iterdir())
    assert {p.name for p in made} == {"wire_pb2.py", "wire_pb2.pyi", "wire_pb2_grpc.py"}
    for path in made:
        assert path.read_bytes() == (ROOT / "contract" / path.name).read_bytes(), path.name


SEALING = tuple(ROOT / "node" / "gate" / name for name in ("sealing.py", "announcing.py"))
"""The files of the gate that make what leaves."""
HEAVY = ("torch", "flwr", "polars", "alembic", "pandas", "scipy", "matplotlib")


@pytest.mark.parametrize(
    "module",
    [
        "node.cli",
        "coordinator.cli",
        "researcher.cli",
        "node.link.server",
        "coordinator.link.server",
    ],
)
def test_neither_a_commands_help_nor_an_idle_daemon_loads_what_it_does_not_need(
    module: str,
) -> None:
    program = f"""
import sys
import {module}
if hasattr({module}, "main"):
    sys.argv = ["x", "--help"]
    try:
        {module}.main()
    except SystemExit as end:
        assert not end.code
print("LOADED", sorted(m for m in {HEAVY!r} if m in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("LOADED []"), done.stdout[-200:]


def descendants(kind: type[WardgateError]) -> Iterator[type[WardgateError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


def test_every_error_has_an_exit_code_of_its_own() -> None:
    kinds: list[type[WardgateError]] = [WardgateError, *descendants(WardgateError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert {0, 130}.isdisjoint(codes)
    assert set(kinds) <= set(exit_codes().values())
    for kind in kinds:
        assert kind.__doc__


def test_only_the_gate_makes_messages_that_leave_a_node() -> None:
    for path in (ROOT / "node").rglob("*.py"):
        makes = [
            node for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and name_of(node.func).endswith("FromNode")
        ]  # fmt: skip
        assert not makes or path in SEALING, path


def test_no_daemon_opens_a_port_but_the_coordinator_and_the_local_consoles() -> None:
    listening = {"add_secure_port", "add_insecure_port", "start_server", "create_server", "listen"}
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and name_of(node.func).rpartition(".")[2] in listening
    }
    # These face the hospital's own archive and modalities, and only if it turns them on.
    inward = {"node/commands/receive.py", "node/pull/listener.py", "node/receive/listening.py"}
    ours = {name for name in found if name.startswith(("node/", "researcher/", "contract/"))}
    assert ours <= inward
    assert "coordinator/link/server.py" in found
    for path in MODULES:
        assert "insecure_channel" not in path.read_text()
        assert "add_insecure_port" not in path.read_text()
