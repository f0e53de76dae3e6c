"""Words of medicine and of everyday reports, which alone identify nobody.

They come from what pydicom carries of the standard: the code meanings of DICOM, SNOMED CT, LOINC
and others, the names of attributes and of UIDs. A name or institution that is also such a word
("Brown", "General") is only taken for one beside something that is not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache

from node.deid.dictionary import table

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
were what when where which while who will with within without woman year years yes you your abdomen
angio axial bone brain breast cardiac cerebral cervical chest contrast coronal ct cta cxr diffusion
dose dx echo emergency enhanced female fluoro foot frontal gadolinium hand head heart hip inpatient
iv kidney knee lateral liver localizer lumbar lung mammogram max min mip mr mra mri neck neuro
nodule nuclear obl oblique outpatient pa pain pelvis perfusion pet portable protocol radiology recon
report sag sagittal scout screening sequence sex shoulder sinus skull spin spine stenosis surgery
thoracic thorax tra trans transverse trauma tumor tumour ultrasound unit vascular wrist xray dr mrs
miss prof doctor physician nurse technologist operator department hospital clinic medical center
centre university institute general community regional county city national international health
healthcare care memorial saint san north south east west street road avenue lane drive suite floor
building room ward tel phone fax email address zip code name birth dob mrn id number acc accession
ref referring referred reviewed requested reported signed read dictated comparison findings
impression conclusion technique indication indications clinical information ray hall field fields
park page reading cross bank lake dicom test phantom anonymous anonymized removed unknown none text
enter value lut voi modality ris pacs admin administrator user service default console workstation
system systems server station client version build release demo sample example dummy standard
presentation inc gmbh ltd corp corporation company co kg ag srl spa technologies technology
solutions
"""


_OTHER_LANGUAGES = """
mai juni juli juin mars mayo maj kopf hals schädel gehirn thorax brust lunge herz leber milz niere
nieren becken hüfte knie fuß fuss hand arm bein schulter ellenbogen handgelenk sprunggelenk
wirbelsäule halswirbelsäule lendenwirbelsäule brustwirbelsäule abdomen bauch oberbauch unterbauch
weichteile gefäße schilddrüse röntgen aufnahme untersuchung befund beurteilung fragestellung klinik
klinikum krankenhaus station ambulanz zentrum institut abteilung universität universitätsklinikum
radiologie pathologie kardiologie dermatologie chirurgie innere medizin facharzt oberarzt
assistenzarzt ärztin straße strasse platz gasse allee weg rechts links beidseits rechte linke
rechter linker tête cou cerveau crâne poumon poumons coeur cœur foie rate rein reins bassin hanche
genou pied main bras jambe épaule coude poignet cheville rachis lombaire cervical thoracique ventre
radiographie examen compte rendu conclusion hôpital hopital clinique centre service institut
université radiologie médecin docteur droite gauche droit gauche rue avenue place boulevard cabeza
cuello cerebro cráneo pulmón corazón hígado bazo riñón pelvis cadera rodilla pie mano brazo pierna
hombro codo muñeca tobillo columna abdomen radiografía estudio informe centro servicio instituto
universidad universitario medicina médico doctora derecha izquierda calle plaza avenida testa collo
cervello polmone cuore fegato milza rene bacino anca ginocchio piede mano braccio gamba ospedale
clinica azienda reparto via piazza destra sinistra szpital klinika przychodnia oddział ulica
nemocnice oddělení ulice больница клиника отделение поликлиника улица город область врач пациент
hoofd hals longen hart lever nieren bekken heup knie voet ziekenhuis afdeling straat abd thx cspine
lspine tspine ext kub uls lle rle lue rue rul rml rll lul lll ruq luq rlq llq infirmary clinics
veterans trust foundation main market bridge station square court view garden gardens green victoria
queen queens king kings prince princess royal college school central park river mount mountain
castle mill mills orchard spring springs summer winter sunset harbour harbor
"""
_EPONYMS = """
agatston albers albert alexander anna baker barrett bassett bassetti bauer baum bazett beath bernard
bernthsen bertel bessel blackett blalock boothby boyd brenner brewerton briquet bruce burns bushuev
butterworth caldwell campbell carlo carnoy castro causton chamberlain charles chitkara chitty
clements cleveland cobb cockett cockroft connor cooper costa couinaud coventry cruz damus danelius
dodd doubilet dunlap ellestad eriksen euler evans ewing fallot ferguson fisk fitzpatrick fleisch
fleischner fontan framingham frank fredericia friedman fuchs garth gault gaynor george gieson glenn
goldstein gordon gorlin graham grunwald haas hadlock haigis hansmann hardi harper harris hart hatton
hays hellman henschen hickey hirtz hodges hodgkin hoffer hoffman hohler holladay holmblad holter
hounsfield hsieh huang hubert hughston hunter isherwood jack james jeanty jenner joslin judd judet
kandel karan kasabach kaye kemp kennedy kerley kerry kovacs kurtz kurzbauer lacombe lauenstein
lavinia lawrence leishman leonard lessoway levenberg levine lewis likar lincoln lindblom lorenz
lucie lysholm mallory marquardt mason mayer mercer merkel mertz merz meyer michel miller mobitz
mondor moore moran morgan morrison muller murray müller nakayama nash naughton neelsen nelson nolke
norgaard norman norwood nyberg olsen osborne paget parkinson pawlow pearson pembroke penner perrin
petit pierquin pierre poiseuille rafert rastelli raynaud reid rempen rheinberg rhese richardson
ringer robert robertson robinson romanov rosen rosenberg rosenmuller runge russell rutherford schiff
schonberg schuller schwartz senning settegast shepard shinozuka simpson singleton springer stansel
staunig stecher stenver stenvers stuart sussman swann swanson taussig taylor teichholz teufel
theiler titterington todaro towne trendelenburg valsalva virchow waldeyer walker wenckebach williams
willis winston wolf wright wynne xu york zanelli zenker ziehl zobel
"""
"""Persons after whom something is named: a patient may have the name."""
_CALLED = """
disease: addison alzheimer behcet bowen caroli castleman chagas charcot crohn cushing dupuytren
 erdheim fabry gaucher graves grave hansen hashimoto hirschsprung hodgkin huntington kawasaki
 kienbock legg lyme madelung menetrier menkes meniere moyamoya niemann ollier osgood paget
 parkinson perthes peyronie pick pompe pott raynaud schlatter sever stargardt steinert still
 takayasu tay whipple wilson wegener sinding freiberg scheuermann blount
syndrome: alport angelman barlow bartter boerhaave brown brugada budd caplan churg conn cushing
 down dressler edwards ehlers eisenmenger felty fitz gardner gilbert goodpasture guillain horner
 hunter hurler jacobs kearns klinefelter lemierre lennox leriche lynch mallory marfan may mayer
 meckel meigs mirizzi noonan nutcracker ogilvie paget pancoast patau peutz pickwick poland prader
 reiter rett reye sheehan sjogren stein stevens sturge swyer tietze tourette turner usher
 waardenburg wallenberg watson weil werner west williams wolff zollinger parkinson wilson
tumour tumor: brown wilms warthin krukenberg klatskin pancoast brenner pott buschke
lymphoma: hodgkin burkitt
sarcoma: ewing kaposi
catheter: foley swan hickman broviac tenckhoff quinton
balloon: foley
cyst: baker tarlov gartner
fracture: bennett colles smith jones rolando barton chance jefferson segond pott maisonneuve
 hill jumped galeazzi monteggia march toddler pilon lisfranc
lesion: bankart hill janeway perthes stener mallory brown
palsy: bell erb klumpke
sign: murphy chilaiditi rigler terry hoffman
node nodes: schmorl virchow cloquet bouchard heberden
ring: schatzki kayser
duct: wharton wirsung stensen bartholin muller wolffian santorini
foot joint arthropathy: charcot
contracture: dupuytren volkmann
diverticulum: meckel zenker
fat: brown
line lines: kerley looser harris shenton
method: simpson
procedure operation: whipple hartmann fontan norwood glenn ross
score: gleason agatston wells glasgow child
scale: glasgow
hernia: bochdalek morgagni spiegel
ganglion: gasser
canal: guyon hunter schlemm
fascia: gerota
pouch: douglas morison rathke
space: morison retzius
triangle: calot scarpa
loop: meyer henle
area: broca wernicke
thyroiditis: hashimoto riedel quervain
arteritis: takayasu horton
anaemia anemia: fanconi cooley
zyste: baker
krankheit: crohn wilson parkinson hodgkin paget
"""
"""What is called after somebody, and by whose name."""
_ADJECTIVES = """
lang lange langer langen kurz kurze klein kleine kleiner gross grosse grosser weiss weisse weisser
schwarz schwarze schwarzer braun braune rot rote grau graue jung junge alt alte neu neue gut gute
hoch hohe spitz scharf glatt frisch fein fett feist breit stark dick dunkel hell still recht kalt
warm ganz halb lauter petit petite grand grande blanc blanche noir noire roux rousse brun brune gros
bon bonne long longue court courte fort forte vert verte jeune vieux legrand lebrun leroy blanco
blanca negro negra delgado delgada moreno rubio rico calvo bravo bueno buena alto alta bajo baja
largo corto leve grueso gordo claro clara seco bianco bianchi rossi russo greco gentile grasso basso
lungo ricci chung dong sung rose rosa olive amber iris violet blau green brown black white young
gray grey hill bell banks wells rivers woods forest stone bush marsh meadow church bishop pope
knight
"""
_PLACES = """
department hospital clinic clinics medical center centre university institute general community
regional county city national international memorial infirmary saint san north south east west
street road avenue lane drive building ward veterans trust foundation market bridge station square
court garden gardens queen queens king kings prince princess royal college school park victoria
klinik klinikum krankenhaus station ambulanz zentrum institut abteilung universitaet universitat
universitatsklinikum strasse platz gasse allee weg hopital clinique rue avenue place boulevard
centro instituto universidad calle plaza avenida ospedale clinica azienda via piazza szpital klinika
oddział ulica nemocnice больница клиника отделение поликлиника улица город область ziekenhuis straat
"""
_MAKERS = """
achieva acquson acuson acuvix adac affiniti agfa aloka aperio aplio aquilion artis axiom biograph
biosense brilliance bruker butterfly canon carestream cemax clarity codonics cytiva dcmqi dcmtk
definition delft dimensions discovery elekta elscint epiq esaote fona fuji fujifilm gdcm ge gendex
gyroscan hamamatsu healthineers hitachi hologic horos howtek huron icad imatron infinitt infinix
ingenia ingenuity innova instrumentarium intera iqon kodak konica kretz leica lightspeed lodox logiq
lorad lumisys magnetom mammomat marconi medis medison medtronic merge mevislab mindray minolta
mirada nikon offis olympus optima optos orthanc osirix philips picker planmeca pydicom ransys
revolution roche samsung sectra selenia senographe sensation shimadzu siemens signa sirona somatom
sonosite supersonic swissray symbia syngo terarecon titan tomtec topcon toshiba trex vantage varian
ventana vidar vivid zeiss ziehm zonare
"""
"""Makers of devices and programs, and what they call them."""
_BREEDS = frozenset({7480, 7481, 7486})
"""Context groups of animals' breeds, whose names are places and persons."""


@cache
def adjectives() -> frozenset[str]:
    """Return words of several languages that are as often names; in small letters they are none."""
    return frozenset(_ADJECTIVES.split()) - words()


@cache
def places() -> frozenset[str]:
    """Return words that name institutions, their parts and where they are, beside their names."""
    return frozenset(map(_folded, _PLACES.split()))


@cache
def makers() -> frozenset[str]:
    """Return the makers of devices, and the devices' names."""
    return frozenset(_MAKERS.split())


@cache
def eponyms() -> Mapping[str, frozenset[str]]:
    """Return names, folded, and the nouns before which they mean no person: a Baker cyst."""
    found: dict[str, set[str]] = {}
    for row in _CALLED.replace("\n ", " ").strip().splitlines():
        nouns, _, names = row.partition(": ")
        for name in names.split():
            found.setdefault(name, set()).update(nouns.split())
    return {name: frozenset(nouns) for name, nouns in found.items()}


@cache
def standard_words() -> frozenset[str]:
    """Return the words of the standard alone, in lower case."""
    concepts = [
        keyword
        for keywords in table("sr._concepts_dict").concepts.values()
        for keyword, codes in keywords.items()
        if not all(_BREEDS.intersection(groups) for _, groups in codes.values())
    ]
    names = [row[2] for row in table("_dicom_dict").DicomDictionary.values()]
    names += [row[0] for row in table("_uid_dict").UID_dictionary.values()]
    parts = {*_PART.findall("\n".join(concepts)), *_WORD.findall("\n".join(names))}
    found = {part.lower() for part in parts}
    found.difference_update(_EPONYMS.split(), _ADJECTIVES.split())
    return frozenset(word for word in found if len(word) > 1)


@cache
def words() -> frozenset[str]:
    """Return all words, folded as ``names.fold`` does (some 8,000)."""
    own = {*_PLAIN.split(), *map(_folded, _OTHER_LANGUAGES.split())}
    return standard_words() | makers() | {word for word in own if len(word) > 1}


def _folded(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word.casefold().replace("œ", "oe"))
    return "".join(c for c in plain if c.isalnum())
