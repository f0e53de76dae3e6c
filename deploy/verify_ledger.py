#!/usr/bin/env python3
"""Check a Wardgate node's ledger, an export of it, or the proof of one entry. One file, by itself.

    verify_ledger.py FOLDER              a node's ledger folder, or what `ledger export` wrote
    verify_ledger.py PROOF.json          what `ledger prove` wrote

It needs Python 3.11 and the package `cryptography`, nothing of Wardgate, no network, and writes
nothing. Of a folder it checks that each entry names the SHA-256 of the line before, the Merkle root
(RFC 6962) at each signed head, the heads' signatures and countersignatures (Ed25519, DSSE) and kept
payloads; of a proof, the path from the entry to the signed head, and its signatures.

Keys are those of the rosters that lie beside the heads. One is believed when a threshold of the
stewards that it names signed it; more this file can't know. Compare the digest that it prints with
what a hospital's steward signed, or give it with --roster-digest.

Exit codes: 0 whole; 12 changed, cut, forked or forged; 2 wrong use.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEAD_TYPE = "application/vnd.wardgate.ledger-head+json"
ROSTER_TYPE = "application/vnd.wardgate.roster+json"
MAX_LINE, MAX_FILE = 1024 * 1024, 8 * 1024 * 1024


class Bad(Exception):
    """Says what doesn't verify."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Envelope:
    """A DSSE envelope: payload, type, signatures by key id."""

    def __init__(self, value: Any, what: str) -> None:
        try:
            self.payload = base64.b64decode(value["payload"], validate=True)
            self.type = str(value["payloadType"])
            pairs = [(s["keyid"], base64.b64decode(s["sig"])) for s in value["signatures"]]
            self.body = json.loads(self.payload)
            self.signatures = dict(pairs)
            if len(self.signatures) != len(pairs) or not isinstance(self.body, dict):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise Bad(f"{what} is not a signed document") from None

    def signers(self, keys: dict[str, str]) -> set[str]:
        """Return which of ``keys`` (base64 of 32 bytes, by name) signed, as a set of names."""
        kind = self.type.encode()
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)
        found: set[str] = set()
        for name, text in keys.items():
            try:
                key = base64.b64decode(text)
                signature = self.signatures[sha256(key).hex()]
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
                found.add(name)
            except (InvalidSignature, KeyError, TypeError, ValueError):
                continue
        return found


def read_json(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)  # what is cut off is no JSON any more
    try:
        return json.loads(data[:MAX_FILE])
    except (ValueError, RecursionError):
        raise Bad(f"{path} is not JSON, or is too large") from None


class Roster:
    """Who is in the consortium, by the keys of the stewards that the roster itself names."""

    def __init__(self, value: Any) -> None:
        envelope = Envelope(value, "a roster")
        self.digest = sha256(envelope.payload).hex()
        try:
            stewards = {m["name"]: m["key"] for m in envelope.body["stewards"]}
            self.sites = {m["name"]: m["key"] for m in envelope.body["sites"]}
            self.consortium, self.version = envelope.body["consortium"], envelope.body["version"]
            threshold = int(envelope.body["threshold"])
        except (KeyError, TypeError, ValueError):
            raise Bad("a roster is malformed") from None
        keys = {stewards[name] for name in envelope.signers(stewards)}  # each counts once
        if envelope.type != ROSTER_TYPE or not 1 <= threshold <= len(keys):
            raise Bad("a roster is not signed by a threshold of its stewards")

    def __str__(self) -> str:
        return f"roster of {self.consortium}, version {self.version}: {self.digest}"


class Head:
    """A signed head: how a ledger stood, and who countersigned it, by any of some rosters."""

    def __init__(self, value: Any, rosters: list[Roster], what: str) -> None:
        envelope = Envelope(value, what)
        try:
            self.site, self.size = envelope.body["site"], int(envelope.body["tree_size"])
            self.root = bytes.fromhex(envelope.body["root_hash"])
            self.chain, self.time = envelope.body["chain_hash"], envelope.body["time"]
            consortium = envelope.body["consortium"]
        except (KeyError, TypeError, ValueError):
            raise Bad(f"{what} is malformed") from None
        found: list[list[str]] = []
        for roster in rosters if envelope.type == HEAD_TYPE else ():
            signers = envelope.signers(roster.sites)
            if roster.consortium == consortium and self.site in signers:
                found.append(sorted(signers - {self.site}))
        if not found:
            raise Bad(f"{what} is not signed by its site")
        self.countersigned = found[-1]

    def __str__(self) -> str:
        by = ", ".join(self.countersigned) or "nobody"
        return f"head of {self.site}: {self.size} entries at {self.time}, countersigned by {by}"


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


class Tree:
    """The roots of the complete subtrees so far."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        size = self.size
        while size & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return sha256(b"")
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def included(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """Follow an inclusion proof (RFC 9162, 2.1.3.2)."""
    number, last = index, size - 1
    if not 0 <= index < size:
        return False
    for step in path:
        if last == 0 or len(step) != 32:
            return False
        if number & 1 or number == last:
            leaf = node_hash(step, leaf)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            leaf = node_hash(leaf, step)
        number, last = number >> 1, last >> 1
    return last == 0 and leaf == root


def lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 2):
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) > MAX_LINE:
                raise Bad("a line of the ledger is too long")
            else:
                return  # half-written when the machine stopped; it was never acted on


class Payloads:
    """Whether what entries kept is there, or was purged in its time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.purged = folder, 0, 0
        self.missing: dict[str, tuple[int, datetime]] = {}

    def check(self, number: int, entry: Any, time: datetime) -> None:
        body = entry["body"]
        for digest in body.get("kept", ()):
            path = self.folder / bytes.fromhex(digest).hex()
            if not path.is_file():
                self.missing[digest] = (number, time)
            elif sha256(path.read_bytes()).hex() != digest:
                raise Bad(f"the payload of entry {number} was changed")
            else:
                self.count += 1
        if entry["kind"] == "payloads-purged":
            limit = datetime.fromisoformat(body["older_than"]) + timedelta(days=1)
            for digest in body["payloads"]:
                self.purged += 1
                was, at = self.missing.pop(digest, (-1, limit))
                if at > limit:
                    raise Bad(f"the payload of entry {was} was purged before its time")


def check_folder(folder: Path, digests: list[str], with_payloads: bool) -> list[str]:
    if not (folder / "ledger.jsonl").is_file():
        raise Bad(f"{folder} holds no ledger.jsonl")
    heads, said = dict[int, list[Head]](), list[str]()
    for place in sorted((folder / "heads").glob("*/own")):
        files = sorted((place.parent / "rosters").glob("*.json"))
        found = [Roster(read_json(file)) for file in files]
        rosters = [roster for roster in found if not digests or roster.digest in digests]
        own = [Head(read_json(file), rosters, file.name) for file in sorted(place.glob("*.json"))]
        for head in own:
            heads.setdefault(head.size, []).append(head)
        said += [*map(str, rosters), *map(str, own[-1:])]
    if not heads:
        said.append("no head of it was ever signed: nothing shows whether its end was cut off")
    tree, previous, latest = Tree(), "0" * 64, None
    payloads = Payloads(folder / "payloads")
    for number, line in enumerate(lines(folder / "ledger.jsonl")):
        try:
            entry = json.loads(line)
            time = datetime.fromisoformat(entry["time"]).astimezone()
            if (entry["sequence"], entry["previous"]) != (number, previous):
                raise Bad(f"the chain breaks at entry {number}")
            if with_payloads:
                payloads.check(number, entry, time)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Bad(f"entry {number} is not readable") from None
        if latest is not None and time + timedelta(seconds=5) < latest:
            said.append(f"the clock went back at entry {number}, by {latest - time}")
        previous, latest = sha256(line).hex(), time
        tree.append(sha256(b"\x00" + line))
        for head in heads.pop(number + 1, ()):
            if (head.root, head.chain) != (tree.root(), previous):
                raise Bad(f"the ledger is not the one of its signed head of {head.size} entries")
    if heads:
        raise Bad(f"the ledger was cut: it has {tree.size} entries, a signed head {min(heads)}")
    if payloads.missing:
        raise Bad(f"the payload of entry {min(payloads.missing.values())[0]} was removed")
    kept = f", {payloads.count} kept payloads, {payloads.purged} purged" if with_payloads else ""
    return [*said, f"verified {tree.size} entries{kept}; root {tree.root().hex()}"]


def check_proof(path: Path, digests: list[str]) -> list[str]:
    value = read_json(path)
    try:
        if value["format"] != "wardgate-ledger-proof-1":
            raise ValueError
        line, index = value["entry"].encode(), int(value["sequence"])
        steps = [bytes.fromhex(step) for step in value["inclusion"]]
        entry = json.loads(line)
        if entry["sequence"] != index:
            raise Bad("the entry says another number than its place")
        roster = Roster(value["roster"])
        if digests and roster.digest not in digests:
            raise Bad(f"the roster is {roster.digest}, not the one that was given")
        head = Head(value["head"], [roster], "the head")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Bad(f"{path} is not a proof of a ledger's entry") from None
    if not included(sha256(b"\x00" + line), index, head.size, steps, head.root):
        raise Bad("the proof does not lead from the entry to the signed head")
    proved = f"verified entry {index} of {entry.get('time')}: {entry.get('kind')}"
    return [str(roster), str(head), proved]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="a ledger's folder, an export, or a proof")
    parser.add_argument("--roster-digest", action="append", default=[], help="SHA-256 to believe")
    parser.add_argument("--no-payloads", action="store_true", help="don't look for kept payloads")
    asked = parser.parse_args()
    try:
        if asked.path.is_dir():
            said = check_folder(asked.path, asked.roster_digest, not asked.no_payloads)
        else:
            said = check_proof(asked.path, asked.roster_digest)
    except (Bad, OSError) as error:
        print(f"verify_ledger: {error}", file=sys.stderr)
        return 12
    print("\n".join(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
