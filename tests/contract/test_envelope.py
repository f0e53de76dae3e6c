"""Signatures: DSSE's and RFC 8032's own vectors, and everything that must not count as one."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract import keys
from contract.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    Signature,
    pre_authentication_encoding,
)
from contract.errors import DocumentError, SignatureError, WardgateError
from contract.keys import SigningKey

TYPE = "application/vnd.example+json"
ANA, BEN = SigningKey.generate(), SigningKey.generate()
BODY = b'{"a": 1}'

# RFC 8032, section 7.1: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
        "f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
        "4dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def sealed(*signers: SigningKey) -> Envelope:
    envelope = Envelope.seal(TYPE, BODY)
    for key in signers:
        envelope = envelope.sign(key)
    return envelope


def public(*members: SigningKey) -> dict[str, str]:
    return {key.id: key.public for key in members}


def test_the_encoding_of_what_is_signed_is_that_of_the_specification() -> None:
    # secure-systems-lab/dsse, protocol.md, "Test vectors".
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.text(max_size=30), st.binary(max_size=30), st.text(max_size=30), st.binary(max_size=30))
def test_two_different_documents_are_never_signed_as_the_same_bytes(
    one: str, first: bytes, other: str, second: bytes
) -> None:
    same = pre_authentication_encoding(one, first) == pre_authentication_encoding(other, second)
    assert same == ((one, first) == (other, second))


@pytest.mark.parametrize(("secret", "key", "message", "signature"), RFC_8032)
def test_keys_sign_and_verify_as_rfc_8032_says(
    secret: str, key: str, message: str, signature: str
) -> None:
    signing = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))
    text, signed = bytes.fromhex(message), bytes.fromhex(signature)
    assert base64.b64decode(signing.public).hex() == key
    assert signing.sign(text) == signed
    assert keys.verify(signing.public, signed, text)
    assert not keys.verify(signing.public, signed, text + b"x")
    assert signing.id == hashlib.sha256(bytes.fromhex(key)).hexdigest()


def test_a_signature_whose_s_is_not_reduced_is_not_valid() -> None:
    # RFC 8032, 5.1.7: S must be below the order L; S + L is the classical forgery of a second form.
    order = 2**252 + 27742317777372353535851937790883648493
    signed = ANA.sign(b"m")
    s = int.from_bytes(signed[32:], "little") + order
    assert not keys.verify(ANA.public, signed[:32] + s.to_bytes(32, "little"), b"m")


def test_a_key_survives_its_file_and_shows_no_secret() -> None:
    again = SigningKey.from_pem(ANA.to_pem())
    assert again.id == ANA.id
    secret = ANA.private.private_bytes_raw().hex()
    assert secret not in repr(ANA)
    assert repr(ANA) == f"SigningKey({ANA.id[:16]})"


@pytest.mark.parametrize(
    "text", ["", "x", "é" * 44, "A" * 44, base64.b64encode(b"x" * 31).decode(), " " * 44]
)
def test_what_is_not_32_bytes_of_base64_is_no_public_key(text: str) -> None:
    with pytest.raises(SignatureError):
        keys.public_bytes(text)


def test_a_public_key_has_one_spelling() -> None:
    # 32 bytes leave two spare bits in the last of the 43 digits: four spellings of one key.
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = digits.index(ANA.public[42])
    for spare in range(1, 4):
        other = ANA.public[:42] + digits[last ^ spare] + "="
        with pytest.raises(SignatureError):
            keys.public_bytes(other)


def test_a_threshold_of_different_keys_opens_an_envelope() -> None:
    envelope = Envelope.parse(sealed(ANA, BEN).to_bytes())
    assert envelope.open(TYPE, public(ANA, BEN), 2) == BODY
    assert envelope.signers(public(ANA)) == {ANA.id}
    assert envelope.digest == hashlib.sha256(BODY).hexdigest()


def test_one_key_that_signs_twice_counts_once() -> None:
    envelope = sealed(ANA, ANA)
    assert len(envelope.signatures) == 1
    with pytest.raises(SignatureError, match="1 valid signatures of the 2"):
        envelope.open(TYPE, public(ANA, BEN), 2)


def test_an_envelope_that_names_a_key_twice_is_none() -> None:
    # Otherwise a false second signature could take the place of a true one when both are kept.
    raw = json.loads(sealed(ANA).to_bytes())
    raw["signatures"].append(raw["signatures"][0] | {"sig": base64.b64encode(b"0" * 64).decode()})
    with pytest.raises(DocumentError):
        Envelope.parse(json.dumps(raw).encode())


def test_a_key_counts_only_under_the_id_that_its_own_bytes_give() -> None:
    signature = sealed(ANA).signatures[0]
    disguised = Envelope.seal(TYPE, BODY).with_signatures(
        [Signature(keyid=BEN.id, sig=signature.sig)]
    )
    assert disguised.signers({BEN.id: ANA.public}) == set()
    assert disguised.signers(public(ANA, BEN)) == set()


def test_a_key_listed_under_a_second_id_does_not_count_twice() -> None:
    envelope = sealed(ANA)
    other = envelope.with_signatures([Signature(keyid="0" * 64, sig=envelope.signatures[0].sig)])
    assert other.signers({ANA.id: ANA.public, "0" * 64: ANA.public}) == {ANA.id}


def test_a_signature_over_another_type_is_not_valid_for_this_one() -> None:
    retyped = sealed(ANA).model_copy(update={"payloadType": TYPE + "x"})
    with pytest.raises(DocumentError):
        retyped.open(TYPE, public(ANA), 1)
    with pytest.raises(SignatureError):
        retyped.open(TYPE + "x", public(ANA), 1)


@pytest.mark.parametrize("threshold", [0, -1])
def test_no_threshold_below_one_opens_anything(threshold: int) -> None:
    with pytest.raises(SignatureError):
        sealed().open(TYPE, {}, threshold)


def test_an_envelope_past_the_limit_is_not_even_parsed() -> None:
    data = sealed(ANA).to_bytes()
    assert Envelope.parse(data + b" " * (MAX_ENVELOPE_BYTES - len(data)))
    with pytest.raises(DocumentError, match="larger"):
        Envelope.parse(data + b" " * (MAX_ENVELOPE_BYTES - len(data) + 1))


@pytest.mark.parametrize("payload", ["é", "====", "a", "YQ", "YQ==\n", "YR==", " YQ=="])
def test_a_payload_that_is_not_base64_in_its_one_form_is_refused(payload: str) -> None:
    raw = {"payload": payload, "payloadType": TYPE, "signatures": []}
    envelope = Envelope.parse(json.dumps(raw).encode())
    for read in (
        lambda: envelope.body,
        lambda: envelope.digest,
        lambda: envelope.open(TYPE, public(ANA), 1),
    ):
        with pytest.raises(DocumentError):
            read()


@pytest.mark.parametrize(
    "sig", ["é", "====", "", "A", "AAAA", base64.b64encode(b"x" * 65).decode()]
)
def test_a_signature_that_is_not_one_is_passed_over(sig: str) -> None:
    envelope = sealed(BEN).with_signatures([Signature(keyid=ANA.id, sig=sig)])
    parsed = Envelope.parse(envelope.to_bytes())
    assert parsed.signers(public(ANA, BEN)) == {BEN.id}


@pytest.mark.parametrize("change", ["unknown", "keyid", "number", "list", "unsigned"])
def test_another_form_is_no_envelope(change: str) -> None:
    raw = json.loads(sealed(ANA).to_bytes())
    match change:
        case "unknown":
            raw["more"] = 1
        case "keyid":
            raw["signatures"][0]["keyid"] = ANA.id.upper()
        case "number":
            raw["payload"] = 5
        case "list":
            raw = [raw]
        case _:
            del raw["signatures"]
    with pytest.raises(DocumentError):
        Envelope.parse(json.dumps(raw).encode())


GOOD = sealed(ANA).to_bytes()


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_an_envelope_with_any_bit_flipped_is_not_accepted(bit: int) -> None:
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WardgateError):
        Envelope.parse(bytes(changed)).open(TYPE, public(ANA), 1)


@given(st.integers(0, len(GOOD) - 1))
def test_an_envelope_that_was_cut_is_not_accepted(length: int) -> None:
    with pytest.raises(WardgateError):
        Envelope.parse(GOOD[:length]).open(TYPE, public(ANA), 1)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_of_a_stranger_raise_anything_but_the_trees_errors(data: bytes) -> None:
    with pytest.raises(WardgateError):
        Envelope.parse(data).open(TYPE, public(ANA), 1)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_in_an_envelopes_fields_raises_anything_but_the_trees_errors(
    payload: str, kind: str, sig: str
) -> None:
    raw = {
        "payload": payload,
        "payloadType": kind,
        "signatures": [{"keyid": ANA.id, "sig": sig}],
    }
    with pytest.raises(WardgateError):
        Envelope.parse(json.dumps(raw).encode()).open(kind, public(ANA), 1)


@given(st.binary(max_size=300))
def test_any_payload_comes_back_as_the_bytes_that_were_signed(payload: bytes) -> None:
    envelope = Envelope.seal(TYPE, payload).sign(ANA)
    assert Envelope.parse(envelope.to_bytes()).open(TYPE, public(ANA), 1) == payload


def test_all_stewards_of_a_roster_can_sign_one_document() -> None:
    envelope = Envelope.seal("x", b"{}")
    signatures = [Signature(keyid=f"{i:064x}", sig="A" * 88) for i in range(1024)]
    again = Envelope.parse(envelope.with_signatures(signatures).to_bytes())
    assert len(again.signatures) == 1024
