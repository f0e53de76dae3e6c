"""The Merkle tree is RFC 6962's: its published hashes come out, and no false proof goes in."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import merkle

# The leaves, roots and proofs that Certificate Transparency's implementations test with
# (google/certificate-transparency-go, transparency-dev/merkle).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
]


def definition(entries: list[bytes]) -> bytes:
    """MTH, word for word from RFC 6962, 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + definition(entries[:k]) + definition(entries[k:])).digest()


class Log:
    """A log of entries with its hashes as a ledger stores them."""

    def __init__(self, entries: list[bytes]) -> None:
        self.tree = merkle.Tree()
        self.hashes: list[bytes] = []
        for entry in entries:
            self.hashes += self.tree.append(merkle.leaf_hash(entry))

    def node(self, level: int, number: int) -> bytes:
        return self.hashes[merkle.stored(level, number)]

    def root(self, size: int) -> bytes:
        return merkle.root(size, self.node)


def entries(count: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(count)]


REFERENCE = Log(LEAVES)


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_the_published_ones(size: int) -> None:
    assert Log(LEAVES[:size]).tree.root().hex() == ROOTS[size]
    assert REFERENCE.root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_the_inclusion_proofs_are_the_published_ones(
    index: int, size: int, path: list[str]
) -> None:
    found = merkle.inclusion_proof(index, size, REFERENCE.node)
    assert [step.hex() for step in found] == path
    leaf, root = merkle.leaf_hash(LEAVES[index]), bytes.fromhex(ROOTS[size])
    assert merkle.inclusion_holds(leaf, index, size, found, root)


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_the_consistency_proofs_are_the_published_ones(
    first: int, second: int, path: list[str]
) -> None:
    found = merkle.consistency_proof(first, second, REFERENCE.node)
    assert [step.hex() for step in found] == path
    roots = bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second])
    assert merkle.consistency_holds(first, roots[0], second, roots[1], found)


@given(st.integers(0, 70))
def test_a_root_is_that_of_the_definition_however_it_is_reached(size: int) -> None:
    log = Log(entries(size))
    expected = definition(entries(size))
    assert log.tree.root() == log.root(size) == expected
    assert merkle.Tree.of(size, log.node).root() == expected
    assert len(log.hashes) == merkle.stored_count(size)


@given(st.integers(1, 70), st.data())
def test_a_proof_of_inclusion_holds_for_its_leaf_and_for_no_other(
    size: int, data: st.DataObject
) -> None:
    log = Log(entries(size))
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_proof(index, size, log.node)
    leaf, root = merkle.leaf_hash(entries(size)[index]), log.root(size)
    assert merkle.inclusion_holds(leaf, index, size, path, root)
    assert len(path) <= (size - 1).bit_length()
    assert not merkle.inclusion_holds(merkle.leaf_hash(b"other"), index, size, path, root)
    others = [i for i in range(size) if i != index]
    assert not any(merkle.inclusion_holds(leaf, i, size, path, root) for i in others)
    assert not merkle.inclusion_holds(leaf, index, size, [*path, bytes(32)], root)
    assert not merkle.inclusion_holds(leaf, index, size, path, bytes(32))
    if path:
        assert not merkle.inclusion_holds(leaf, index, size, path[:-1], root)
        assert not merkle.inclusion_holds(leaf, index, size, [path[0][:31], *path[1:]], root)


@given(st.integers(1, 70), st.data())
def test_a_proof_of_consistency_holds_for_its_trees_and_for_no_others(
    second: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, second))
    log = Log(entries(second))
    path = merkle.consistency_proof(first, second, log.node)
    roots = log.root(first), log.root(second)
    assert merkle.consistency_holds(first, roots[0], second, roots[1], path)
    changed = data.draw(st.integers(0, first - 1))
    forked = Log([b"x" if i == changed else e for i, e in enumerate(entries(second))])
    theirs = merkle.consistency_proof(first, second, forked.node)
    for proof in (path, theirs):
        assert not merkle.consistency_holds(first, roots[0], second, forked.root(second), proof)
    assert not merkle.consistency_holds(first, roots[0], second, roots[1], [*path, bytes(32)])
    if first < second:
        assert not merkle.consistency_holds(second, roots[1], first, roots[0], path)
        assert not merkle.consistency_holds(first, roots[0], second, roots[1], [])


@given(
    st.integers(-3, 40), st.integers(-3, 40), st.lists(st.binary(min_size=32, max_size=32)),
    st.binary(min_size=32, max_size=32),
)  # fmt: skip
def test_no_strangers_proof_raises_or_holds(
    first: int, second: int, path: list[bytes], root: bytes
) -> None:
    assert not merkle.inclusion_holds(bytes(32), first, second, path, root)
    trivial = first == second >= 0 and not path
    assert merkle.consistency_holds(first, root, second, root, path) == trivial
    assert not merkle.consistency_holds(first, b"a" * 32, second, b"b" * 32, path)


def test_the_empty_tree_begins_every_tree() -> None:
    root = REFERENCE.root(8)
    assert merkle.consistency_holds(0, merkle.EMPTY_ROOT, 8, root, [])
    assert not merkle.consistency_holds(0, bytes(32), 8, root, [])
    with pytest.raises(ValueError, match="no such proof"):
        merkle.consistency_proof(0, 8, REFERENCE.node)
    with pytest.raises(ValueError, match="no such leaf"):
        merkle.inclusion_proof(8, 8, REFERENCE.node)
    with pytest.raises(ValueError, match="complete subtrees"):
        merkle.Tree(3, [bytes(32)])
