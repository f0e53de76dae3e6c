"""Settings of fetching from archives: which archives, when, how fast, how patiently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from foundation.hours import Hours, time_zone
from foundation.listening import is_loopback
from foundation.settings import Settings

AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""An application entity's title (PS3.5 section 6.2, AE): 16 characters, no backslash."""
Port = Annotated[int, Field(ge=1, le=65535)]


class DicomArchive(Settings):
    """An archive that is asked by C-FIND and C-GET or C-MOVE."""

    kind: Literal["dicom"]
    host: Annotated[str, Field(min_length=1)]
    port: Port
    ae_title: AeTitle
    """The archive's title, which we call."""
    our_ae_title: AeTitle = "WARDGATE"
    """Our title, which the archive must know."""
    retrieve: Literal["get", "move"] = "get"
    listen_host: str = "0.0.0.0"  # noqa: S104 (the archive connects to it; only with "move")
    """Address on which we listen for what C-MOVE sends."""
    listen_port: Port = 11113
    """Port on which we listen for what C-MOVE sends; the archive knows it with our title."""
    tls_ca: Path | None = None
    """Authority of the archive's certificate; with it the connection is TLS, and verified."""
    tls_certificate: Path | None = None
    """Our certificate, where the archive wants one, or where it connects to us by TLS."""
    tls_key: Path | None = None
    """The private key of our certificate."""

    @model_validator(mode="after")
    def _whole(self) -> DicomArchive:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_certificate is not None and self.tls_ca is None:
            raise ValueError("TLS needs tls_ca, the authority of the archive's certificate")
        if self.retrieve == "move" and self.tls_ca is not None and self.tls_certificate is None:
            raise ValueError("C-MOVE by TLS needs tls_certificate and tls_key of our own")
        return self


class DicomwebArchive(Settings):
    """An archive that is asked by QIDO-RS and WADO-RS."""

    kind: Literal["dicomweb"]
    url: str
    """The service's root, as in https://pacs.hospital/dicom-web."""
    token_file: Path | None = None
    """A file with a bearer token."""
    basic_file: Path | None = None
    """A file with user:password."""
    ca_file: Path | None = None
    """Authority of the archive's certificate; without it the system's."""
    certificate_file: Path | None = None
    """Our client certificate, where the archive wants one."""
    key_file: Path | None = None
    """The private key of our client certificate."""
    page: Annotated[int, Field(ge=1, le=10000)] = 200
    """Matches asked for at once."""

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url is not an http(s) address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("url holds more than an address; a password goes into basic_file")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("patients' data needs https beyond this machine")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_way(self) -> DicomwebArchive:
        if self.token_file is not None and self.basic_file is not None:
            raise ValueError("give token_file or basic_file, not both")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


ArchiveSettings = Annotated[DicomArchive | DicomwebArchive, Field(discriminator="kind")]


class PullSettings(Settings):
    """Fetching from the hospital's archives (``wardgate-node pull``)."""

    archives: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")], ArchiveSettings] = (
        Field(default_factory=dict)
    )
    """The archives by name: a table ``[pull.archives.NAME]`` each."""
    hours: str = ""
    """When to fetch, as ``mon-fri 19:00-06:00, sat-sun 00:00-24:00``; empty: always."""
    time_zone: str = ""
    """The zone of ``hours``, such as Europe/Berlin; empty: the operating system's."""
    instances_per_second: Annotated[float, Field(ge=0)] = 50.0
    """Instances taken per second at most; 0: no limit."""
    megabytes_per_second: Annotated[float, Field(ge=0)] = 25.0
    """10^6 bytes taken per second at most; 0: no limit."""
    associations: Annotated[int, Field(ge=1, le=16)] = 1
    """Studies fetched at once, each by an association of its own."""
    study_pause_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Pause after a study, so that the archive's own users come first."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """How often a study is tried before it counts as failed."""
    first_pause_seconds: Annotated[float, Field(gt=0)] = 2.0
    """Pause after a failure; doubled each time."""
    longest_pause_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Longest pause between two attempts."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long the archive may stay silent."""
    most_studies: Annotated[int, Field(ge=1)] = 500
    """More matches than this are refused without ``--yes``."""
    largest_instance_bytes: Annotated[int, Field(ge=2**20)] = 4 * 2**30
    """A larger instance is not taken. By DIMSE it is held in memory."""

    @model_validator(mode="after")
    def _times(self) -> PullSettings:
        Hours.parse(self.hours, time_zone(self.time_zone))
        return self
