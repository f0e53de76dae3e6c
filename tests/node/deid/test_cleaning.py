"""What is cleaned instead of removed: text, dates, private blocks, content items, documents."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from node.deid.engine import Deidentifier
from node.deid.identifiers import Known
from node.deid.private import is_known, is_safe
from node.deid.profile import Options, Profile, ProfileSettings, load_profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.structured import concept_action
from tests.node.deid.made import dataset, item, read, written

KEY = Pseudonyms(bytes(range(32)))


def under(known: Known | None = None, /, **options: Any) -> Any:
    """Return a function that de-identifies a data set under research with other options."""
    research = load_profile("research").settings.options
    chosen = Options(**{**research.model_dump(), "pixels": "off", **options})
    deidentifier = Deidentifier(Profile(ProfileSettings(options=chosen)), KEY)
    return lambda made: read(deidentifier.deidentify(written(made), known).data)


research = under()


def test_descriptors_keep_their_clinical_words() -> None:
    after = research(
        dataset(
            StudyDescription="Thistlewood, Jane: CT chest, nodule in left lobe",
            ImageComments="MRN 4711993 seen, effusion unchanged",
        )
    )
    assert "CT chest, nodule in left lobe" in after.StudyDescription
    assert "effusion unchanged" in after.ImageComments
    assert "histlewood" not in str(after)
    assert "4711993" not in str(after)


def test_an_attribute_that_the_table_does_not_list_is_searched_too() -> None:
    after = research(dataset(AcquisitionDeviceProcessingCode="JTHISTLEWOOD", FilterMaterial="AL"))
    assert "HISTLEWOOD" not in str(after)
    assert after.FilterMaterial == "AL"


def test_what_other_files_know_is_found_in_this_one() -> None:
    made = dataset(ImageComments="Referred by Quillfeather, from Larkspur Cottage")
    told = under(
        Known(persons=frozenset({"Quillfeather^A"}), phrases=frozenset({"Larkspur Cottage"}))
    )
    assert "uillfeather" not in told(made).ImageComments
    assert "Larkspur" not in told(made).ImageComments


def test_text_behind_the_nul_that_ends_a_value_goes() -> None:
    after = research(dataset(SeriesDescription="AXIAL\0secret words"))
    assert after.SeriesDescription == "AXIAL"


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        (["", "ISO 2022 IR 58"], None),
        ("GB18030", None),
        ("ISO_IR 192", None),
        ("ISO_IR 100", "gb18030"),
        ("", "utf-8"),
        ("ISO_IR 100", "utf-8"),
    ],
)
def test_a_chinese_name_goes_in_any_character_set_declared_or_not(
    charset: Any, codec: str | None
) -> None:
    name, text = "\u8bf8\u845b\u5fd7\u5f3a", "\u80ba\u90e8\u7ed3\u8282"
    made = dataset()
    made.SpecificCharacterSet = charset
    for tag, vr, words in ((0x00100010, "PN", name), (0x00081030, "LO", f"{text} {name} CT")):
        value: str | bytes = words
        if codec or charset == ["", "ISO 2022 IR 58"]:
            raw = words.encode(codec or "gb2312")
            raw = raw if codec else b"\x1b$)A" + raw  # PS3.5 annex K: designated to G1
            value = raw + b" " * (len(raw) & 1)
        made.add_new(tag, vr, value)
    deidentifier = Deidentifier(load_profile("research").with_pixels("off"), KEY)
    out = deidentifier.deidentify(_raw(made)).data
    for encoding in ("gb18030", "utf-8"):
        assert name.encode(encoding) not in out
    assert any(text.encode(encoding) in out for encoding in ("gb18030", "utf-8"))


def _raw(made: Dataset) -> bytes:
    """Return a file whose values of bytes were written as they are."""
    for tag in (0x00100010, 0x00081030):
        value = made.get_item(tag).value
        if isinstance(value, bytes):
            made[tag] = type(made[tag])(tag, "UN", value)
    data = written(made)
    for tag, vr in ((b"\x10\0\x10\0", b"PN"), (b"\x08\0\x30\x10", b"LO")):
        at = data.find(tag + b"UN")
        if at >= 0:
            length = int.from_bytes(data[at + 8 : at + 12], "little")
            data = data[:at] + tag + vr + length.to_bytes(2, "little") + data[at + 12 :]
    return data


def test_all_dates_of_a_patient_move_by_the_same_days_in_text_too() -> None:
    made = dataset(
        AcquisitionDateTime="20200310093000.5+0100",
        StudyComments="compared with 15.02.2020 and 2019-12-24; born 16.07.1951",
    )
    after = research(made)
    days = KEY.days(after.PatientID)
    moved = date(2020, 3, 1).toordinal() - days
    assert after.StudyDate == date.fromordinal(moved).strftime("%Y%m%d")
    assert after.AcquisitionDateTime[:8] == date.fromordinal(moved + 9).strftime("%Y%m%d")
    assert after.AcquisitionDateTime[8:] == "093000.5+0100"
    earlier = date.fromordinal(date(2020, 2, 15).toordinal() - days)
    assert f"{earlier.day:02}.{earlier.month:02}.{earlier.year}" in after.StudyComments
    christmas = date.fromordinal(date(2019, 12, 24).toordinal() - days)
    assert christmas.isoformat() in after.StudyComments
    assert "1951" not in after.StudyComments
    assert after.PatientBirthDate == ""


def test_dates_and_uids_can_stay_as_they_are() -> None:
    after = under(dates="kept", uids="kept")(
        dataset(StudyComments="compared with 15.02.2020", AcquisitionDate="20200302")
    )
    assert (after.StudyDate, after.AcquisitionDate) == ("20200301", "20200302")
    assert "15.02.2020" in after.StudyComments
    assert after.SOPInstanceUID == "1.2.3.4.1"
    assert after.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
    assert {"113106", "113110"} <= set(codes)
    assert "113107" not in codes


def test_a_uid_in_text_becomes_what_it_becomes_elsewhere() -> None:
    made = dataset(RequestedProcedureDescription="see 1.2.826.0.1.3680043.10.777.5")
    after = research(made)
    assert after.RequestedProcedureDescription == f"see {KEY.uid('1.2.826.0.1.3680043.10.777.5')}"


def test_a_uid_that_is_none_stays_none() -> None:
    after = research(dataset(FrameOfReferenceUID="0"))
    assert after.FrameOfReferenceUID == "0"


@pytest.mark.parametrize(("given", "kept"), [("054Y", "054Y"), ("095Y", "090Y"), ("Jane", "")])
def test_ages_above_89_are_one_group(given: str, kept: str) -> None:
    made = dataset()
    made.add_new(0x00101010, "AS", given)
    assert str(research(made).get("PatientAge") or "") == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [("101530.123456", "101530.123456"), ("10:15:30", "10:15:30"), ("1015", "1015"),
     ("784197212345671", ""), ("99881122", ""), ("Jane", "")],
)  # fmt: skip
def test_a_time_that_is_none_goes(given: str, kept: str) -> None:
    made = dataset()
    made.add_new(0x00080033, "TM", given)
    assert str(research(made).get("ContentTime") or "") == kept


def test_an_integer_beyond_what_one_can_be_goes() -> None:
    made = dataset(InstanceNumber="12")
    made.add_new(0x00200012, "IS", "784197212345")
    after = research(made)
    assert not after.get("AcquisitionNumber") and after.InstanceNumber == 12


# ---- private ------------------------------------------------------------------------------------


def _private() -> Dataset:
    made = dataset()
    block = made.private_block(0x0019, "GEMS_ACQU_01", create=True)
    block.add_new(0x23, "DS", "27.5")  # listed
    block.add_new(0x9E, "LO", "FSE-XL Thistlewood")  # listed, and holds a name
    block.add_new(0xF1, "LO", "not listed")
    other = made.private_block(0x0019, "THISTLEWOOD 1.0", create=True)
    other.add_new(0x01, "LO", "of an unknown creator")
    return made


def test_safe_private_attributes_stay_and_their_text_is_cleaned() -> None:
    after = research(_private())
    block = after.private_block(0x0019, "GEMS_ACQU_01")
    assert block[0x23].value == 27.5
    assert "FSE-XL" in block[0x9E].value
    assert "histlewood" not in block[0x9E].value
    assert 0xF1 not in block
    assert "listed" not in str(after)
    assert "THISTLEWOOD" not in str(after)


def test_without_the_option_no_private_attribute_stays() -> None:
    assert not [e for e in under(private="removed")(_private()) if e.tag.is_private]


def test_an_unknown_private_creator_can_refuse_a_file() -> None:
    with pytest.raises(Unsafe, match="unknown-private-creator"):
        under(unknown_private="refused")(_private())
    known = dataset()
    known.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x23, "DS", "1")
    assert under(unknown_private="refused")(known).private_block(0x0019, "GEMS_ACQU_01")


def test_the_table_of_safe_private_attributes_says() -> None:
    # PS3.15 Table E.3.10-1
    assert is_safe("Philips PET Private Group", 0x70531000)
    assert is_safe("ELSCINT1", 0x00E11050)
    assert not is_safe("ELSCINT1", 0x00E11051)
    assert not is_safe("Philips PET Private Group", 0x70551000)
    assert is_known("SIEMENS MR HEADER")
    assert not is_known("ACME")


# ---- structured content -------------------------------------------------------------------------


def _content(value_type: str, code: str, scheme: str, **values: Any) -> Dataset:
    concept = item(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning="x")
    return item(
        RelationshipType="CONTAINS",
        ValueType=value_type,
        ConceptNameCodeSequence=Sequence([concept]),
        **values,
    )


def test_content_items_follow_the_standards_table_of_concepts() -> None:
    made = dataset(Modality="SR")
    made.ContentSequence = Sequence(
        [
            _content("TEXT", "121071", "DCM", TextValue="Thistlewood has effusion"),
            _content("TEXT", "121022", "DCM", TextValue="ACC123456"),  # Accession Number: X
            _content("PNAME", "121008", "DCM", PersonName="Quill^A"),  # Person Observer: D
            _content("DATE", "111060", "DCM", Date="20200301"),  # Study Date: C of dates
            _content("TEXT", "local", "99X", TextValue="seen by Jane Thistlewood, stable"),
        ]
    )
    after = research(made)
    texts = [str(one.get("TextValue", "")) for one in after.ContentSequence]
    assert texts[1] == "REMOVED"
    assert [one.ConceptNameCodeSequence for one in after.ContentSequence] == [
        one.ConceptNameCodeSequence for one in made.ContentSequence
    ]
    assert any("effusion" in text for text in texts)
    assert any("stable" in text for text in texts)
    assert "histlewood" not in str(after)
    assert "Quill" not in str(after)
    assert "ACC123456" not in str(after)
    assert [one.Date for one in after.ContentSequence if "Date" in one] == [after.StudyDate]
    assert "ContentSequence" in under(clean_structured_content=False)(made)
    assert "effusion" not in str(under(clean_structured_content=False)(made))


def test_the_table_of_concepts_says() -> None:
    # PS3.15 Table E.3.4-1
    longitudinal = ("retain_longitudinal_modified_dates",)
    assert concept_action("121022", "DCM", "TEXT", (), cleans_text=True) == "X"
    assert concept_action("121008", "DCM", "PNAME", (), cleans_text=True) == "D"
    assert concept_action("113809", "DCM", "DATETIME", (), cleans_text=True) == "D"
    assert concept_action("113809", "DCM", "DATETIME", longitudinal, cleans_text=True) == "C"
    described = ("clean_descriptors",)
    assert concept_action("121071", "DCM", "TEXT", described, cleans_text=True) == "C"
    assert concept_action("1234", "99X", "TEXT", (), cleans_text=True) == "C"


# ---- what is refused, what is said --------------------------------------------------------------


def test_heads_can_be_refused() -> None:
    made = dataset(Modality="CT", BodyPartExamined="HEAD")
    with pytest.raises(Unsafe, match="recognizable-visual-features"):
        under(visual_features="refused")(made)
    made.RecognizableVisualFeatures = "NO"
    assert under(visual_features="refused")(made)
    for part in ("CHEST", "HEART", "FOREARM"):
        assert under(visual_features="refused")(dataset(Modality="CT", BodyPartExamined=part))
    for part in ("EAR", "INNEREAR", "HEART AND HEAD"):
        with pytest.raises(Unsafe, match="recognizable-visual-features"):
            under(visual_features="refused")(dataset(Modality="CT", BodyPartExamined=part))


def test_every_option_is_said_by_its_code() -> None:
    # PS3.16 CID 7050
    after = under(uids="kept", device_identity=True, institution_identity=True, pixels="ocr")(
        dataset()
    )
    codes = [code.CodeValue for code in after.DeidentificationMethodCodeSequence]
    assert codes == [
        *("113100", "113101", "113103", "113104", "113105", "113107", "113108", "113109"),
        *("113110", "113111", "113112"),
    ]


def test_institution_and_device_stay_where_the_options_keep_them() -> None:
    made = dataset(
        InstitutionName="Foxglove Infirmary", StationName="STN41651", DeviceSerialNumber="SN99881",
        StudyDescription="Foxglove protocol on STN41651",
    )  # fmt: skip
    gone = research(made)
    assert "Foxglove" not in str(gone)
    assert "STN41651" not in str(gone)
    kept = under(institution_identity=True, device_identity=True)(made)
    assert kept.InstitutionName == "Foxglove Infirmary"
    assert (kept.StationName, kept.DeviceSerialNumber) == ("STN41651", "SN99881")
