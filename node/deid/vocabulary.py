"""Words of medicine and of everyday reports, which alone identify nobody.

They come from what pydicom carries of the standard: the code meanings of DICOM, SNOMED CT, LOINC
and others, the names of attributes and of UIDs. A name or institution that is also such a word
("Brown", "General") is only taken for one beside something that is not.
"""

from __future__ import annotations

import re
from functools import cache

_WORD = re.compile(r"[^\W\d_]+")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PLAIN = """
a about after again all also an and any are as at be because been before being between both but by
can compared could day days did do does done down due during each either evaluate exam examination
few fever follow followup for from further good great had has have he her here high him his history
how if image images imaging in into is it its just known last late left less like likely little long
low made make male man many march may me mild moderate month months more most much must my near new
no non normal not noted now of off old on once one only or order other our out over own part patient
per please possible post pre presented previous prior quality quick right routine same scan scans
see seen series session severe she should show shows since slice slices small so some status still
stable study such suggest than that the their them then there these they this those three through
time to today total two under unremarkable until up upper us use very view views was week weeks well
were what when where which while who will with within without woman year years yes you young your
abdomen angio axial bone brain breast cardiac cerebral cervical chest contrast coronal ct cta cxr
diffusion dose dx echo emergency enhanced female fluoro foot frontal gadolinium hand head heart hip
inpatient iv kidney knee lateral liver localizer lumbar lung mammogram max min mip mr mra mri neck
neuro nodule nuclear obl oblique outpatient pa pain pelvis perfusion pet portable protocol radiology
recon report sag sagittal scout screening sequence sex shoulder sinus skull spin spine stenosis
surgery thoracic thorax tra trans transverse trauma tumor tumour ultrasound unit us vascular wrist
xray dr mrs miss prof doctor physician nurse technologist operator department hospital clinic
medical center centre university institute general community regional county city national
international health healthcare care memorial saint san north south east west street road avenue
lane drive suite floor building room ward tel phone fax email address zip code name birth dob mrn id
number no acc accession ref referring referred reviewed requested reported signed read dictated
comparison findings impression conclusion technique indication indications clinical information ray
gray grey hall field fields park hill bell page read reading cross bank banks wells rivers lake
woods forest stone bush marsh meadow church bishop pope knight dicom test phantom anonymous
anonymized removed unknown none
"""


@cache
def words() -> frozenset[str]:
    """Return the words, in lower case (some 10,000)."""
    from pydicom import _dicom_dict, _uid_dict
    from pydicom.sr import _concepts_dict

    found = set(_PLAIN.split())
    for codes in _concepts_dict.concepts.values():
        for keyword in codes:
            found.update(part.lower() for part in _PART.findall(keyword))
    for row in _dicom_dict.DicomDictionary.values():
        found.update(part.lower() for part in _WORD.findall(row[2]))
    for known in _uid_dict.UID_dictionary.values():
        found.update(part.lower() for part in _WORD.findall(known[0]))
    return frozenset(word for word in found if len(word) > 1)
