"""The node's settings: ``node.toml``, overridden by ``WARDGATE_NODE_*``."""

from __future__ import annotations

import os
import tomllib
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from contract.work import Scalar
from foundation import settings
from foundation.defaults import default_text
from foundation.files import write_new
from foundation.web.settings import ConsoleSettings
from node.gate.notices.settings import NoticeSettings
from node.home import NodeHome
from node.pull.settings import PullSettings


class DatabaseSettings(settings.Settings):
    """Where the catalogue is kept."""

    url: str = ""
    """An SQLAlchemy URL such as ``postgresql+psycopg://user@host/name``; empty: SQLite in home."""


class LinkSettings(settings.Settings):
    """The one connection to each coordinator."""

    first_backoff_seconds: Annotated[float, Field(gt=0)] = 0.5
    """Pause before the first attempt to reconnect; doubled each time, with jitter."""
    longest_backoff_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Longest pause between two attempts."""
    head_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Pause between two heads of the ledger that are sent to be countersigned."""


class WorkSettings(settings.Settings):
    """What work may use of this machine."""

    threads: Annotated[int, Field(ge=1, le=64)] = 4
    """Questions worked on at once."""
    training_jobs: Annotated[int, Field(ge=1, le=64)] = 4
    """Training jobs worked on at once; others wait for their turn."""
    column_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory for released columns that were asked for before."""
    worker_threads: Annotated[int, Field(ge=1)] = 2
    """Threads that a recipe's numerical libraries use."""


def _listed(value: object) -> object:
    """An environment variable gives a list as words between commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


Words = Annotated[list[str], BeforeValidator(_listed)]


class SuperNodeSettings(settings.Settings):
    """Flower SuperLinks that carry training; the policy must allow it too."""

    superlinks: Words = Field(default_factory=list)
    """The SuperLinks: CONSORTIUM=HOST:PORT each. Empty: none is dialled."""
    poll_seconds: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """Pause between two questions to a SuperLink whether there is work."""

    @field_validator("superlinks")
    @classmethod
    def _are_addresses(cls, words: list[str]) -> list[str]:
        for word in words:
            name, _, address = word.partition("=")
            host, _, port = address.rpartition(":")
            if not name or not host or not port.isdigit():
                raise ValueError("a SuperLink is CONSORTIUM=HOST:PORT")
        return words

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each consortium's SuperLink."""
        return dict(word.split("=", 1) for word in self.superlinks)


NODES_OWN = ("data-path", "dataset-path", "partition-id", "num-partitions")
"""What the node itself tells an app in its ``node_config``."""
MOST_TOLD = 100


def _told(value: object) -> object:
    """Return what apps are told, unless it is another kind of thing or the node's own.

    An environment variable gives a table as TOML writes it between braces.
    """
    told = tomllib.loads(f"told = {{{value}}}")["told"] if isinstance(value, str) else value
    if isinstance(told, dict):
        if len(told) > MOST_TOLD:
            raise ValueError(f"node_config has more than {MOST_TOLD} keys")
        for key, one in told.items():
            if key in NODES_OWN:
                raise ValueError(f"the node itself sets {key}")
            if not isinstance(one, Scalar):
                raise ValueError(f"{key} is no text, number, true or false")
    return told


class RunSettings(settings.Settings):
    """What this hospital tells the Flower apps that train here."""

    node_config: Annotated[dict[str, Scalar], BeforeValidator(_told)] = Field(default_factory=dict)
    """More of an app's ``context.node_config``: texts, numbers, true or false. Each approved recipe
    reads it, so no secret belongs here."""


class IntakeSettings(settings.Settings):
    """Who takes files in, and what becomes of some kinds."""

    profile: str = "research"
    """De-identification profile: a name, or a TOML file."""
    lists: str = ""
    """A TOML file of the hospital's own names, institutions and numbers: found in every file."""
    pseudonym_key: str = ""
    """The secret of the pseudonyms: a file, or a pkcs11: URI. Empty: pseudonym.key in the home."""
    executor: str = "processes"
    """processes: of this machine. Or a Dask scheduler: tls://host:port, or tcp://127.0.0.1:port."""
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    """Processes at work; 0: as many as there are cores."""
    file_seconds: Annotated[int, Field(ge=1)] = 3600
    """A file that takes longer is put in quarantine."""
    tls_authority: str = ""
    """Certificate (PEM) of the authority of the Dask cluster."""
    tls_certificate: str = ""
    """Our certificate (PEM) for the Dask cluster."""
    tls_key: str = ""
    """The private key of this certificate."""
    allow_plain_tcp: bool = False
    """Let a Dask scheduler on another machine be used without TLS: on a network of its own only."""
    faces: Literal["mask", "quarantine"] = "mask"
    """A face in a photograph: blacked out, or the photograph is put in quarantine. Where consent
    covers faces, it stays."""
    settle_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long a file of a watched folder must have stayed the same."""
    look_seconds: Annotated[float, Field(gt=0)] = 2.0
    """Pause between two looks at a watched folder."""


class AccountSettings(settings.Settings):
    """Under which operating-system account data comes in."""

    user: str = ""
    """The user of intake, landing and quarantine; empty: the node's own user."""
    group: str = ""
    """The group that this user and the node's share: vault and catalogue. Empty: the user's."""


class StowSettings(settings.Settings):
    """DICOMweb STOW-RS, one of the ways in."""

    enabled: bool = False
    """Take instances by DICOMweb too."""
    host: str = "127.0.0.1"
    """The address to listen on. Beyond this machine only with certificate and key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8811
    """The port. 0 takes any free one (and prints it)."""
    tls_certificate: str = ""
    """The server's certificate chain, a PEM file."""
    tls_key: str = ""
    """The certificate's key, a PEM file."""
    max_request_bytes: Annotated[int, Field(gt=0)] = 16 * 2**30
    """A request larger than this is refused."""
    max_requests: Annotated[int, Field(ge=1, le=1000)] = 16
    """Requests worked on at once; others are told to come back."""


class ReceiveSettings(settings.Settings):
    """What ``wardgate-node receive`` listens to, whom it believes and how much it takes."""

    dicom: bool = True
    """Take instances by DICOM C-STORE."""
    ae_title: str = "WARDGATE"
    """The application entity title that a sender must call."""
    host: str = "127.0.0.1"
    """The address to listen on for DICOM."""
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    """The DICOM port. 0 takes any free one (and prints it)."""
    calling: Words = Field(default_factory=list)
    """Who may send: AE titles, each with the address it must come from if one follows an @."""
    report_to: Words = Field(default_factory=list)
    """Where storage commitment is reported: AET=host:port. Others: on their own association."""
    tls_certificate: str = ""
    """Certificate chain (PEM) for DICOM over TLS; empty: no TLS."""
    tls_key: str = ""
    """The certificate's key, a PEM file."""
    tls_authority: str = ""
    """PEM of the authorities whose certificates senders must show; empty: none is asked for."""
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that receive; an association is served by the one with the fewest."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 32
    """Associations at once; others are rejected for now."""
    max_pdu_bytes: Annotated[int, Field(ge=4096, le=2**20)] = 131072
    """The largest PDU that a sender may send."""
    max_instance_bytes: Annotated[int, Field(gt=0)] = 8 * 2**30
    """A larger instance is refused."""
    idle_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A sender of which nothing comes for this long is no longer waited for."""
    least_bytes_per_second: Annotated[float, Field(gt=0)] = 1024.0
    """Nor is one that is slower than this for as long, unless it finishes an instance."""
    keep_free_bytes: Annotated[int, Field(ge=0)] = 2 * 2**30
    """With less room on the landing's disk, arrivals are refused."""
    max_waiting: Annotated[int, Field(ge=1)] = 100_000
    """With more instances waiting to be de-identified, arrivals are refused."""
    landing_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 24.0
    """What could not be de-identified within this time is deleted from the landing."""
    quarantine_days: Annotated[float, Field(gt=0, le=366)] = 30.0
    """What is in quarantine for longer is deleted."""
    web: StowSettings = StowSettings()


class NodeConsoleSettings(ConsoleSettings):
    """The steward's page."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8801
    """The page's port. 0 takes any free one (and prints it)."""


class NodeSettings(settings.Settings):
    """All settings of a node."""

    database: DatabaseSettings = DatabaseSettings()
    link: LinkSettings = LinkSettings()
    work: WorkSettings = WorkSettings()
    training: RunSettings = RunSettings()
    supernode: SuperNodeSettings = SuperNodeSettings()
    intake: IntakeSettings = IntakeSettings()
    notices: NoticeSettings = NoticeSettings()
    console: NodeConsoleSettings = NodeConsoleSettings()
    account: AccountSettings = AccountSettings()
    receive: ReceiveSettings = ReceiveSettings()
    pull: PullSettings = PullSettings()


def load_settings(home: NodeHome) -> NodeSettings:
    """Return the settings of the home's file (defaults without one) and the environment."""
    path = home.settings if home.settings.exists() else None
    environment = {k: v for k, v in os.environ.items() if k != "WARDGATE_NODE_HOME"}
    return settings.load(NodeSettings, path, "WARDGATE_NODE", environment)


def create_home(home: NodeHome) -> NodeHome:
    """Make a node's folders, its settings and its policy (``standard``) where there are none."""
    home.create()
    if not home.settings.exists():
        write_new(home.settings, default_text("node.toml").encode())
    if not home.policy.exists():
        write_new(home.policy, default_text("policy/standard.toml").encode())
    return home
