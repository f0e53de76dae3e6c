"""The files in ``deploy/``, read as the tools that use them would read them. None is run."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from coordinator.config import CoordinatorSettings
from foundation import cgroups
from foundation.defaults import CONFIGS
from node.config import NodeSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILES = sorted((DEPLOY / "container").glob("*.Containerfile"))
COMPOSE = sorted((DEPLOY / "compose").glob("*.compose.yaml"))
WHOLE = [path for path in COMPOSE if "training" not in path.name]
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SANDBOX_CALLS = {
    "mount", "umount2", "pivot_root", "unshare", "clone", "clone3", "sethostname", "prctl",
    "seccomp", "capset", "setns", "chroot", "execve",
}  # fmt: skip
SECRET = re.compile(
    r"(?i)(password|secret|token|api_?key|private_?key)\s*[:=]\s*\S|BEGIN [A-Z ]*KEY"
)


def each(paths: list[Path]) -> pytest.MarkDecorator:
    """Run a test for each of these files, named by it."""
    return pytest.mark.parametrize("path", paths, ids=[path.name for path in paths])


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return a Containerfile's instructions with their arguments."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", path.read_text()))
    pairs = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), re.sub(r"\s+", " ", rest).strip()) for name, _, rest in pairs]


def unit(path: Path) -> dict[str, list[str]]:
    """Return a unit's keys and values (systemd.syntax(7)); sections are flattened."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", ";", "[")):
            key, separator, value = line.partition("=")
            assert separator and key.isidentifier(), line
            found.setdefault(key, []).append(value)
    return found


def settings_named(variable: str) -> bool:
    """Say whether an environment variable names a setting, or a home."""
    for prefix, model in (
        ("WARDGATE_NODE_", NodeSettings),
        ("WARDGATE_COORDINATOR_", CoordinatorSettings),
    ):
        if variable.startswith(prefix):
            rest = variable.removeprefix(prefix).lower()
            return rest == "home" or _is_key(model, rest.split("__"))
    return False


def _is_key(model: type[BaseModel], path: list[str]) -> bool:
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    inner = field.annotation
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return len(path) > 1 and _is_key(inner, path[1:])
    return len(path) == 1


def accepts(command: list[str]) -> None:
    """Assert that a command line's program, subcommands and options exist."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), command[1:]))
    shown = help_of(Path(command[0]).name, *words)
    for word in command[1 + len(words) :]:
        if word.startswith("--"):
            assert re.search(rf"{word}\b", shown), f"{word} is no option of {command}"


@functools.cache
def help_of(name: str, *words: str) -> str:
    """Return what a command says with ``--help``."""
    program = Path(sys.executable).with_name(name)
    assert program.exists(), f"{name} is no entry point"
    shown = subprocess.run(
        [program, *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200", "TERM": "dumb", "PATH": "/usr/bin"},
    )
    assert shown.returncode == 0, (name, words, shown.stderr)
    return shown.stdout


def test_there_is_something_to_check() -> None:
    assert [len(paths) for paths in (CONTAINERFILES, COMPOSE, WHOLE, UNITS)] == [2, 4, 2, 4]


@each([p for p in DEPLOY.rglob("*") if p.is_file() and p.name != "README.md"])
def test_no_file_holds_a_secret(path: Path) -> None:
    assert not SECRET.search(path.read_text())


class TestContainerfiles:
    @each(CONTAINERFILES)
    def test_every_base_image_is_pinned_by_tag(self, path: Path) -> None:
        bases = [rest for name, rest in instructions(path) if name == "FROM"]
        assert len(bases) == 2
        for base in bases:
            assert re.match(r"docker\.io/library/python:3\.11-slim-bookworm( AS build)?$", base)

    @each(CONTAINERFILES)
    def test_the_last_user_is_an_ordinary_one_named_by_number(self, path: Path) -> None:
        last = [rest for name, rest in instructions(path) if name in ("FROM", "USER")][-1]
        assert last == "10001:10001"

    @each(CONTAINERFILES)
    def test_nothing_is_fetched_but_by_the_package_managers(self, path: Path) -> None:
        for name, rest in instructions(path):
            assert name != "ADD"
            assert not re.search(r"\b(curl|wget|git clone)\b", rest)
            if name == "COPY":
                sources = [p for p in rest.split()[:-1] if not p.startswith("--")]
                if "--from=build" not in rest:
                    assert all((ROOT / source).exists() for source in sources), rest

    @each(CONTAINERFILES)
    def test_versions_are_those_of_the_constraints(self, path: Path) -> None:
        installs = [r for n, r in instructions(path) if n == "RUN" and "pip install" in r]
        assert installs and all("--constraint constraints.txt" in r for r in installs)
        extra = f".[{path.name.split('.')[0]}]"
        assert any(extra in r for r in installs)

    @each(CONTAINERFILES)
    def test_every_package_of_the_wheel_is_copied(self, path: Path) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
        copied = {r.split()[0] for n, r in instructions(path) if n == "COPY"}
        assert {*wheel["packages"], *wheel["force-include"]} <= copied
        ignored = path.with_name(path.name + ".dockerignore").read_text().splitlines()
        assert "*" in ignored
        assert {*wheel["packages"], *wheel["force-include"]} <= {
            line.removeprefix("!") for line in ignored if line.startswith("!")
        }

    @each(CONTAINERFILES)
    def test_commands_and_variables_exist(self, path: Path) -> None:
        found = dict(instructions(path))
        entry, default = json.loads(found["ENTRYPOINT"]), json.loads(found["CMD"])
        accepts([*entry, *default])
        check = json.loads(re.sub(r"^.* CMD (?=\[)", "", found["HEALTHCHECK"]))
        if check[0] == "python":
            compile(check[2], "healthcheck", "exec")
        else:
            accepts(check)
        for variable in re.findall(r"\b(WARDGATE_\w+)=", path.read_text()):
            assert settings_named(variable)

    def test_the_node_exposes_no_port_and_has_its_sandbox(self) -> None:
        found = instructions(DEPLOY / "container/node.Containerfile")
        assert not [name for name, _ in found if name == "EXPOSE"]
        for path in CONTAINERFILES:
            assert any("install --yes --no-install-recommends bubblewrap python3-seccomp" in r
                       for _, r in instructions(path))  # fmt: skip


class TestCompose:
    @each(WHOLE)
    def test_every_service_is_hardened(self, path: Path) -> None:
        for name, service in services(path).items():
            assert service["user"] == "10001:10001", name
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert all(mount.startswith("/tmp:") for mount in service["tmpfs"])
            assert service["volumes"] == ["home:/var/lib/wardgate"]
            assert service["restart"] == "unless-stopped"
            assert {"cpus", "mem_limit", "pids_limit"} <= set(service)
            assert not {"privileged", "devices", "env_file", "secrets", "pid", "ipc"} & set(service)
            assert service.get("network_mode") is None

    def test_the_node_publishes_no_port_and_consoles_only_to_their_own_machine(self) -> None:
        node = services(DEPLOY / "compose/node.compose.yaml")
        coordinator = services(DEPLOY / "compose/coordinator.compose.yaml")
        assert "ports" not in node["node"] and "expose" not in node["node"]
        assert node["console"]["ports"] == ["127.0.0.1:8801:8801"]
        assert coordinator["console"]["ports"] == ["127.0.0.1:8802:8802"]
        assert coordinator["coordinator"]["ports"] == ["7443:7443"]
        assert node["console"]["profiles"] == coordinator["console"]["profiles"] == ["console"]

    @each(WHOLE)
    def test_commands_variables_and_images_exist(self, path: Path) -> None:
        party = path.name.split(".")[0]
        for service in services(path).values():
            accepts([f"wardgate-{party}", *service["command"]])
            assert all(settings_named(variable) for variable in service["environment"])
            assert all(isinstance(value, str) for value in service["environment"].values())
            context = (path.parent / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).exists()

    @each(WHOLE)
    def test_what_is_named_is_declared(self, path: Path) -> None:
        whole = yaml.safe_load(path.read_text())
        assert set(whole["volumes"]) == {"home"}
        for service in services(path).values():
            assert set(service["networks"]) <= set(whole["networks"])

    @each([p for p in COMPOSE if p not in WHOLE])
    def test_for_training_only_the_sandbox_s_needs_are_lifted(self, path: Path) -> None:
        party = path.name.split(".")[0]
        whole = yaml.safe_load(path.read_text())
        assert set(whole) == {"services"} and set(whole["services"]) == {party}
        options = whole["services"][party]
        assert set(options) == {"security_opt"}
        named = dict(option.split("=", 1) for option in options["security_opt"])
        assert set(named) == {"seccomp", "apparmor", "systempaths"}
        assert (path.parent / named["seccomp"]).exists()

    def test_the_system_call_list_leaves_the_sandbox_what_it_needs(self) -> None:
        profile = json.loads((DEPLOY / "container/seccomp-sandbox.json").read_text())
        assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
        (rule,) = profile["syscalls"]
        assert rule["action"] == "SCMP_ACT_ERRNO"
        assert rule["names"] == sorted(set(rule["names"]))
        assert not SANDBOX_CALLS & set(rule["names"])
        dangerous = {"bpf", "init_module", "kexec_load", "keyctl", "io_uring_setup", "ptrace"}
        assert dangerous <= set(rule["names"])

    @pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")
    @each(COMPOSE)
    def test_compose_itself_accepts_the_files(self, path: Path) -> None:
        client = ["docker", "compose"]
        if subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            pytest.skip("the docker client has no compose")
        files = {path, path.with_name(path.name.replace(".training", ""))}
        named = [word for file in sorted(files, key=len_of) for word in ("-f", str(file))]
        checked = subprocess.run(
            [*client, *named, "config", "--quiet"], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr


class TestUnits:
    @each(UNITS)
    def test_the_command_exists_with_its_options(self, path: Path) -> None:
        (command,) = unit(path)["ExecStart"]
        words = shlex.split(command)
        assert words[0].startswith("/opt/wardgate/bin/")
        accepts(words)

    @each(UNITS)
    def test_the_unit_is_hardened(self, path: Path) -> None:
        found = unit(path)
        for key, value in {
            "NoNewPrivileges": "yes",
            "CapabilityBoundingSet": "",
            "AmbientCapabilities": "",
            "ProtectSystem": "strict",
            "ProtectHome": "yes",
            "PrivateTmp": "yes",
            "PrivateDevices": "yes",
            "ProtectClock": "yes",
            "ProtectKernelModules": "yes",
            "LockPersonality": "yes",
            "RestrictRealtime": "yes",
            "RestrictSUIDSGID": "yes",
            "SystemCallArchitectures": "native",
            "UMask": "0077",
            "Restart": "on-failure",
        }.items():
            assert found.get(key) == [value], key
        if "receive" in path.name:
            # It shares the node's folder, which systemd must not give to one user.
            assert found["User"] == ["wardgate-intake"] and found["Group"] == ["wardgate-node"]
            assert "StateDirectory" not in found
            assert found["ReadWritePaths"] == ["/var/lib/wardgate-node"]
        else:
            assert found["User"] == found["Group"] == found["StateDirectory"]
            assert found["StateDirectoryMode"] == ["0700"]
        assert found["User"][0] in (DEPLOY / "systemd/wardgate.sysusers.conf").read_text()
        assert found["SystemCallFilter"][0].startswith("@system-service")
        assert not [v for values in found.values() for v in values if v == "root"]
        assert "LoadCredential" not in found and "EnvironmentFile" not in found

    @each(UNITS)
    def test_a_unit_that_starts_sandboxes_leaves_them_what_they_need(self, path: Path) -> None:
        found = unit(path)
        covers_proc = {"ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset"}
        closed = {*covers_proc, "RestrictNamespaces", "ProtectHostname", "ProtectControlGroups"}
        families = found["RestrictAddressFamilies"][0].split()
        if "console" in path.name:
            assert closed <= set(found)
            assert found["IPAddressDeny"] == ["any"] and "AF_NETLINK" not in families
        elif "receive" in path.name:
            # What reads pixels looks at /proc/cpuinfo.
            assert closed - {"ProcSubset"} <= set(found) and "AF_NETLINK" not in families
        else:
            assert not closed & set(found)
            assert {"@mount", "seccomp", "sethostname"} < set(found["SystemCallFilter"][0].split())
            assert "AF_NETLINK" in families
            assert found["Delegate"] == [" ".join(cgroups.CONTROLLERS)]
            assert found["OOMPolicy"] == ["continue"]

    @each(UNITS)
    def test_exit_codes_that_a_restart_cannot_mend_are_ours(self, path: Path) -> None:
        from contract.errors import Unavailable, exit_codes

        codes = {int(code) for code in unit(path)["RestartPreventExitStatus"][0].split()}
        assert codes < set(exit_codes())
        assert Unavailable.exit_code not in codes

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
    @each(UNITS)
    def test_systemd_accepts_the_unit(self, path: Path, tmp_path: Path) -> None:
        bin_folder = Path(sys.executable).parent
        local = tmp_path / path.name
        local.write_text(path.read_text().replace("/opt/wardgate/bin/", f"{bin_folder}/"))
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(local)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        assert path.name not in checked.stderr, checked.stderr


def test_consoles_ports_are_the_same_everywhere() -> None:
    for party, port in (("node", 8801), ("coordinator", 8802)):
        assert f"port = {port}" in (CONFIGS / f"{party}.toml").read_text()
        assert f":{port}:{port}" in (DEPLOY / f"compose/{party}.compose.yaml").read_text()
    assert NodeSettings().console.port == 8801
    assert CoordinatorSettings().console.port == 8802


def services(path: Path) -> dict[str, dict[str, Any]]:
    """Return a compose file's services."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["services"]
    return found


def len_of(path: Path) -> int:
    """The main file is named first; what changes it has the longer name."""
    return len(path.name)
