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
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEAD_TYPE = "application/vnd.wardgate.ledger-head+json"
ROSTER_TYPE = "application/vnd.wardgate.roster+json"
PROOF_FORMAT = "wardgate-ledger-proof-1"
MAX_LINE, MAX_FILE = 1024 * 1024, 8 * 1024 * 1024
SLACK = timedelta(seconds=5)


class Bad(Exception):
    """Something doesn't verify, and what."""


def sha256(data):
    return hashlib.sha256(data).digest()


class Envelope:
    """A DSSE envelope: payload, type, signatures by key id."""

    def __init__(self, value, what):
        try:
            self.payload = base64.b64decode(value["payload"], validate=True)
            self.type = value["payloadType"]
            pairs = [(s["keyid"], base64.b64decode(s["sig"])) for s in value["signatures"]]
            self.body = json.loads(self.payload)
            self.signatures = dict(pairs)
            if len(self.signatures) != len(pairs) or not isinstance(self.body, dict):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise Bad(f"{what} is not a signed document") from None

    def signers(self, keys):
        """Return which of ``keys`` (base64 of 32 bytes, by name) signed, as a set of names."""
        kind = self.type.encode()
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)
        found = set()
        for name, text in keys.items():
            key = base64.b64decode(text)
            signature = self.signatures.get(sha256(key).hex())
            if signature is None:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
            except (InvalidSignature, ValueError):
                continue
            found.add(name)
        return found


def read_json(path):
    with Path(path).open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Bad(f"{path} is too large")
    try:
        return json.loads(data)
    except ValueError:
        raise Bad(f"{path} is not JSON") from None


class Roster:
    """Who is in the consortium, by the keys of the stewards that the roster itself names."""

    def __init__(self, value):
        envelope = Envelope(value, "a roster")
        self.digest = sha256(envelope.payload).hex()
        try:
            stewards = {m["name"]: m["key"] for m in envelope.body["stewards"]}
            self.sites = {m["name"]: m["key"] for m in envelope.body["sites"]}
            self.consortium, self.version = envelope.body["consortium"], envelope.body["version"]
            threshold = int(envelope.body["threshold"])
        except (KeyError, TypeError, ValueError):
            raise Bad("a roster is malformed") from None
        enough = envelope.type == ROSTER_TYPE and threshold >= 1
        if not enough or len(envelope.signers(stewards)) < threshold:
            raise Bad("a roster is not signed by a threshold of its stewards")

    def __str__(self):
        return f"roster of {self.consortium}, version {self.version}: {self.digest}"


class Head:
    """A signed head: how a ledger stood, and who countersigned it, by any of some rosters."""

    def __init__(self, value, rosters, what):
        envelope = Envelope(value, what)
        try:
            self.site, self.size = envelope.body["site"], int(envelope.body["tree_size"])
            self.root = bytes.fromhex(envelope.body["root_hash"])
            self.chain, self.time = envelope.body["chain_hash"], envelope.body["time"]
            consortium = envelope.body["consortium"]
        except (KeyError, TypeError, ValueError):
            raise Bad(f"{what} is malformed") from None
        self.countersigned = None
        for roster in rosters if envelope.type == HEAD_TYPE else ():
            signers = envelope.signers(roster.sites)
            if roster.consortium == consortium and self.site in signers:
                self.countersigned = sorted(signers - {self.site})
        if self.countersigned is None:
            raise Bad(f"{what} is not signed by its site")

    def __str__(self):
        by = ", ".join(self.countersigned) or "nobody"
        return f"head of {self.site}: {self.size} entries at {self.time}, countersigned by {by}"


def node_hash(left, right):
    return sha256(b"\x01" + left + right)


class Tree:
    """The roots of the complete subtrees so far."""

    def __init__(self):
        self.size, self.peaks = 0, []

    def append(self, leaf):
        size = self.size
        while size & 1:
            leaf = node_hash(self.peaks.pop(), leaf)
            size >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def included(leaf, index, size, path, root):
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


def lines(path):
    with Path(path).open("rb") as file:
        while line := file.readline(MAX_LINE + 2):
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) > MAX_LINE:
                raise Bad("a line of the ledger is too long")
            else:
                return  # half-written when the machine stopped; it was never acted on


class Payloads:
    """Whether what entries kept is there, or was purged in its time."""

    def __init__(self, folder):
        self.folder, self.missing, self.count, self.purged = folder, {}, 0, 0

    def check(self, number, entry, time):
        body = entry["body"]
        for digest in body.get("kept", ()):
            path = self.folder / bytes.fromhex(digest).hex()
            if not path.is_file():
                self.missing[digest] = (number, time)
                continue
            if sha256(path.read_bytes()).hex() != digest:
                raise Bad(f"the payload of entry {number} was changed")
            self.count += 1
        if entry["kind"] == "payloads-purged":
            limit = datetime.fromisoformat(body["older_than"]) + timedelta(days=1)
            for digest in body["payloads"]:
                self.purged += 1
                was, at = self.missing.pop(digest, (None, None))
                if was is not None and at > limit:
                    raise Bad(f"the payload of entry {was} was purged before its time")


def check_folder(folder, digests, with_payloads):
    if not (folder / "ledger.jsonl").is_file():
        raise Bad(f"{folder} holds no ledger.jsonl")
    heads, said = {}, []
    for place in sorted((folder / "heads").glob("*")):
        files = sorted((place / "own").glob("*.json"))
        if not files:
            continue
        found = [Roster(read_json(file)) for file in sorted((place / "rosters").glob("*.json"))]
        rosters = [roster for roster in found if not digests or roster.digest in digests]
        said += map(str, rosters)
        for file in files:
            head = Head(read_json(file), rosters, f"{place.name}/{file.name}")
            heads.setdefault(head.size, []).append(head)
        said.append(str(head))
    tree, previous, latest = Tree(), "0" * 64, None
    payloads = Payloads(folder / "payloads")
    for number, line in enumerate(lines(folder / "ledger.jsonl")):
        try:
            entry = json.loads(line)
            time = datetime.fromisoformat(entry["time"])
            if (entry["sequence"], entry["previous"]) != (number, previous):
                raise Bad(f"the chain breaks at entry {number}")
            if with_payloads:
                payloads.check(number, entry, time)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Bad(f"entry {number} is not readable") from None
        if latest is not None and time + SLACK < latest:
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


def check_proof(path, digests):
    value = read_json(path)
    try:
        if value["format"] != PROOF_FORMAT:
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


def main():
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
