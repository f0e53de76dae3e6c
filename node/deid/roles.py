"""Persons and places that a text names by what they are to the patient, whoever they are.

Staff behind a title or a verb of reporting, relatives, signatures and degrees; practices and
hospitals that somebody came from; addresses. A name begins with a capital and is no word of
medicine (``vocabulary``); where a word of prose often stands, two parts of a name are asked for.
"""

from __future__ import annotations

import re

from node.deid.vocabulary import words

_CAP = r"[^\W\d_a-zа-яё][^\W\d_]+(?:[-'’][^\W\d_]+)*"
_INITIAL = r"[^\W\d_a-zа-яё]\.?"
_LAST = r"[^\W\d_a-zа-яё](?:\.|(?![^\W_]))"
_NAME = rf"{_CAP}(?:,? {_CAP}){{0,2}}(?:,? {_LAST}(?: ?{_LAST})?)?"
_FULL = rf"(?:{_INITIAL} ?){{0,2}}{_NAME}"
_TAIL = re.compile(rf",? {_LAST}(?: ?{_LAST})?")
_TWO = rf"(?:{_CAP} (?:{_INITIAL} )?{_CAP}|(?:{_INITIAL} ?){{1,2}} ?{_CAP}|{_CAP},? {_LAST})"

# What stands before a name, in prose; (words that must be there for it, pattern).
_BEHIND_TITLE = re.compile(
    r"(?<![^\W_])(?:[Dd]ott(?:\.? ?ssa)?|[Dd]ra|[Ss]r(?:t?a)?|[Ll]ic|[Ll]ek|[Mm]gr|[Ii]nż|Pr|"
    r"[Ss]ig(?:\.? ?ra)?|"
    r"[Dd]oc|[Dd]ip|[Mm]tra|MTRA|BS|Bs|Uz|Op|д-р|[Дд]окт|[Пп]роф|[Вв]р|[Гг]р|[Ss]tr|h\.? ?c|em)"
    rf"\.? (?:(?:[Dd]r|[Mm]ed|[Pp]rof|h\.? ?c|dent|n)\. ?)*(?P<x>{_FULL})"
)
_BEHIND_ROLE = re.compile(
    r"(?<![^\W_])(?i:radiographers?|sonographers?|registrar|consultant|surgeon|matron|sister|nurse|"
    r"cardiologist|pathologist|radiologist|technologist|physicist|anaesthetist|anesthesiologist|"
    r"clinician|practitioner|gp|fellow|resident|doktor|docteur|professeur|m[ée]decin|m[ée]dico|"
    r"arzt|ärztin|oberarzt|oberärztin|chefarzt|chefärztin|hausarzt|zuweiser|überweiser|befunder|"
    r"lekarz|opisał[a]?|zlecił[a]?|zleca|pacjent(?:k?[aięą])?|sayın|"
    r"hasta|hekim|bác sĩ|bệnh nhân|bn|"
    r"врач[ауе]?|доктор[ау]?|профессор[ау]?|пациент(?:к?[аиеу])?|рентгенолог[ау]?|"
    r"больн(?:ой|ая|ого)|медсестра|фио)"
    rf"(?:[:.=]? )(?P<x>{_FULL})"
)
_BEHIND_COLON = re.compile(
    r"(?<![^\W_])(?i:patient(?:in)?|paciente|paziente|name|pt name|patient name|tech(?:nologist)?|"
    r"rt|rad|mta|mtra|cc|attn|kopie an|signed|sgd|gez|gezeichnet|unterschrift|podpis|подпись|"
    r"фамилия|исполнитель|mother|father|wife|husband|son|daughter|brother|sister|spouse|partner|"
    r"carer|guardian|parent|next of kin|nok|kin|emergency contact|contact person|nom|prénom|"
    r"nombre|apellidos?|cognome|nome|imi[ęe]|ad soyad|họ tên|surname|forename|first name|last name|"
    r"observer|author|editor|reader|supervisor|approved by|approver|scribe|transcribed by|typed by|"
    r"ordering|ordered by|requested by|requester|referrer|auftraggeber|anforderer|befund(?:et)?)"
    rf"\.? ?[:=/] ?(?P<x>{_FULL}|[a-z]{{2,}}, ?[a-z]{{2,}}(?![\w]))"
)
_BEHIND_VERB = re.compile(
    r"(?<![^\W_])(?i:signed electronically by|electronically signed by|approved by|"
    r"authori[sz]ed by|"
    r"transcribed by|typed by|verified by|ordered by|requested by|scanned by|injected by|"
    r"consented by|interpreted by|checked by|validated by|acquired by|prepared by|assisted by|"
    r"befundet von|erstellt von|demandé par(?: le| la)?|prescrit par|validé par|realizado por|"
    r"informado por|firmado por|eseguito da|refertato da|wykonał[a]?|gez\.|sgd\.?|pt name|"
    r"patient name|tarafından|направлен[а]? врачом)"
    rf" (?:(?:[Dd]r|[Pp]r|[Pp]rof)\.? )?(?P<x>{_FULL})"
)
_BEHIND_TALK = re.compile(
    r"(?<![^\W_])(?i:discussed with|d/w|spoken to|spoke (?:to|with)|communicated to|informed|"
    r"notified|"
    r"telephoned|phoned|paged|called|seen by|seen with|cc|c/o|attn|signed|signed/|by)"
    rf":? (?P<x>{_TWO})(?![-'’]?[^\W\d_])"
)
_RELATIVES = re.compile(
    r"(?<![^\W_])(?i:mother|father|wife|husband|(?-i:son)|daughter|brother|spouse|partner|carer|mum|mom|"
    r"dad|guardian|aunt|uncle|grandmother|grandfather|mutter|vater|ehefrau|ehemann|tochter|sohn|"
    r"épouse|mari|fille|fils|madre|padre|hijo|hija|esposa|żona|mąż|córka|syn|жена|муж|мать|отец)"
    rf"(?: named| called|,| is|:)? ?\(?(?P<x>{_CAP}(?: {_CAP})?)(?![-'’]?[^\W\d_])"
)
_DEGREES = re.compile(
    rf"(?<!\w)(?P<x>(?:(?:{_INITIAL} ?){{1,3}}|{_CAP},? (?:{_INITIAL} )?){_CAP}|{_CAP}),? "
    r"\(?(?:M\.?D\.?|Ph\.?D|R\.?N|R\.?T|D\.?O|FRCR|FRCPC?|FRANZCR|MRCP|MBBS|MBChB|DABR|RDMS|DMRD|"
    r"DNB|FACR|PA-C|NP|RT\(R\)|BSc|MSc)(?![^\W_])"
)
_COMING = re.compile(
    r"(?<![^\W_])(?i:transferred from|referred from|referred by|scanned at|imaged at|performed at|"
    r"films from|study from|images from|ct from|mri from|outside hospital|admitted (?:to|at)|"
    r"treated at|operated at|lives (?:in|at)|resident of|resides (?:in|at)|aus dem|praxis|"
    rf"employed (?:at|by)|works (?:at|for)|university of|univ\.? of|universidad de|université de) "
    rf"(?P<x>(?:St\.? )?{_CAP}(?: {_CAP}){{0,3}})"
)
_HOUSES = re.compile(
    r"(?<![^\W_])(?:[Cc]l[ií]nica|CHU|CHR|[Cc]entre [Hh]ospitalier|"
    r"[Aa]zienda [Oo]spedaliera|[Pp]oliclinico|"
    r"[Pp]olicl[ií]nica|[Pp]olyclinique|[Ss]anatori(?:o|um)|[Hh]ospital|[Pp]rzychodnia|[Nn]emocnice|"
    r"[Ll]asarett?|[Бб]ольница|[Кк]линика|[Пп]оликлиника)"
    rf"(?: (?:de|del|di|do|da|la|le|im|St\.?|im\.|имени|им\.))* "
    rf"(?:San |Santa |Sant['’])?(?P<x>{_NAME})"
)
_SAINTS = re.compile(
    r"(?<!\w)(?:St|Saint|Sankt|Ste)\.?[ -][A-Z][a-z]{2,}['’]?s(?:['’])?(?!\w)|"
    r"(?<!\w)(?:Sankt|Sint)[ -][A-Z][a-z]{3,}(?!\w)"
)
_CENTERS = re.compile(
    rf"(?<!\w)(?P<x>{_CAP}(?: {_CAP}){{0,2}}) (?i:med(?:ical)?\.? (?:ctr|cent(?:er|re))|hosp\.?|"
    r"practice|surgery|health cent(?:er|re)|healthcare trust|nhs trust|nursing home|care home|"
    r"imaging cent(?:er|re)|radiology group|szpital|hastanesi|sairaala|sjukhus|sykehus|ziekenhuis|"
    r"kórház|nemocnice|hospice)(?!\w)"
)
_ADDRESSES = re.compile(
    r"(?i:(?<!\w)p\.? ?o\.? box \d+(?:, [a-z]+)?)"
    r"|(?<!\w)(?:[A-Z]{2}\d{1,2}|[A-Z]{1,2}\d[A-Z]|[BEGLMNSW]\d{1,2}) ?"
    r"\d(?!ST|ND|RD|TH|DX|FX|HZ|GY|ED|PA|AP)[ABD-HJLNP-UW-Z]{2}(?!\w)"
    r"|(?<!\w)[A-Z][a-z]+(?: [A-Z][a-z]+)?, (?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|"
    r"M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]) \d{5}(?:-\d{4})?(?!\w)"
    r"|(?<!\w)[^\W\d_]{3,}(?:str\.|straße|strasse|weg|allee|platz|gasse) ?\d{1,4}[a-z]?"
    r"(?:,? (?:[A-Z]{1,2}-)?\d{4,5} [^\W\d_a-z][^\W\d_]+)?(?!\w)"
    r"|(?i:(?<!\w)\d{1,5}[a-z]? (?:[^\W\d_][\w'.-]* ){1,3}(?:street|avenue|road|lane|drive|close|"
    r"crescent|terrace|boulevard|way|court|square|place))"
    r"(?:, [A-Z][\w'-]+){1,2}(?:,? [A-Z]{2} \d{5})?"
)
_DIGIT = re.compile(r"\d")
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾萧肖田董潘袁蔡蒋余于杜叶程魏"
    "苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万"
    "覃武钱戴严莫孔向汤欧阳張劉陳楊黃趙吳孫馬鄭謝許韓馮鄧蕭葉蘇呂盧鍾譚陸賈鄒閆龍賀顧龔萬錢嚴湯"
)
_EAST = re.compile(
    r"(?:医[师生者]|醫[師生]|[者人]|技[师師]|护士|責任者|主治医?|担当医?|担当者|読影医?|依頼医?|"
    r"撮影者|技師|审核|复核|签名|署名)[:：]\s?"
    r"(?P<x>[\u4e00-\u9fff]{2,5}(?: [\u4e00-\u9fff]{1,3})?)(?![\u4e00-\u9fff])"
    rf"|(?:医[师生]|技师|护士) (?P<y>[{_SURNAMES}][\u4e00-\u9fff]{{1,3}})(?![\u4e00-\u9fff])"
    rf"|(?:患者|病人|姓名) (?P<p>[{_SURNAMES}][\u4e00-\u9fff]{{1,2}})(?![\u4e00-\u9fff])"
    r"|(?:主治医|担当医|担当者|読影医|依頼医|撮影者|検査技師)[ \u3000]"
    r"(?P<j>[\u4e00-\u9fff]{2,5})(?![\u4e00-\u9fff])"
    r"|担当[:：]\s?(?P<z>[\u4e00-\u9fff]{2,5})(?![\u4e00-\u9fff])"
    r"|(?:담당의|판독의|주치의|의사|의료진|기사|간호사|보호자|성명|작성자|환자)[: ]\s?"
    r"(?P<k>[김이박최정강조윤장임한오서신권황안송전홍유고문양손배백허남심노하곽성차주우구민류나진"
    r"지엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모][가-힣]{1,2})(?![가-힣])"
    r"|(?<![가-힣])(?P<s>[김이박최정강조윤장임한오서신권황안송전홍유고문양손배백허남심노곽차주우구민류진"
    r"엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육맹제모][가-힣]{2}) ?"
    r"(?:간호사|의사|교수|선생|과장|님|씨|기사)"
)
_NOT_EAST = re.compile(
    r"^(?:待|无|無|未|同|不|本|自|女|男|是|已|成|老|病|患|医|科|影像|放射|临床|なし|特|환자|의사|"
    r"정상|이상|주의|조영|전체|고혈|하지|상지)"
)
_TEAMS = re.compile(
    r"(?i)(?:logy|logist|gery|surgery|ics|try|care|team|department|emergency|icu|oncology|ward|"
    r"theatre|clinic|unit|service|staff|office|ology|therapy|therapist|nurse|doctor|family|"
    r"patient|report|hospital|centre|center|iatrics|iatry|casualty|medicine|disease|syndrome|"
    r"angiography|graphy|scopy|ectomy|itis|oma|osis|pathy)s?$"
)
_MARY_JOSEPH = re.compile(r"(?i)sister mary jos")
_WORD = re.compile(r"[^\W\d_]+")
_SPACED_NAME = re.compile(r"[^\W\d_a-zа-яё][^\W\d_]*[a-zа-яёà-ÿ\u0100-\u024f]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRIGGERED: tuple[tuple[re.Pattern[str], frozenset[str], bool], ...] = (
    (
        _BEHIND_TITLE,
        _words(
            """
            dott ssa dra sr sra srta lic lek mgr inż pr sig doc dip mtra bs uz op др р докт
            проф вр гр str c em
            """
        ),
        False,
    ),
    (
        _BEHIND_COLON,
        _words(
            """
            patient patientin paciente paziente name tech technologist rt rad mta mtra cc
            attn an signed sgd gez gezeichnet unterschrift podpis подпись фамилия
            исполнитель mother father wife husband son daughter brother sister spouse
            partner carer guardian parent kin nok contact person nom prénom nombre apellido
            apellidos cognome nome imię imie soyad tên surname forename observer author
            editor reader supervisor by approver scribe ordering requester referrer
            auftraggeber anforderer befund befundet
            """
        ),
        False,
    ),
    (
        _BEHIND_VERB,
        _words(
            """
            by von par por da wykonał wykonała gez sgd name tarafından врачом
            """
        ),
        False,
    ),
    (
        _DEGREES,
        _words(
            """
            md m ph phd rn r rt d do frcr frcp frcpc franzcr mrcp mbbs mbchb dabr rdms dmrd
            dnb facr pa np bsc msc
            """
        ),
        False,
    ),
    (
        _BEHIND_ROLE,
        _words(
            """
            radiographer radiographers sonographer sonographers registrar consultant surgeon
            matron sister nurse cardiologist pathologist radiologist technologist physicist
            anaesthetist anesthesiologist clinician practitioner gp fellow resident doktor
            docteur professeur médecin medecin médico medico arzt ärztin oberarzt oberärztin
            chefarzt chefärztin hausarzt zuweiser überweiser befunder lekarz opisał opisała
            zlecił zleciła zleca pacjent pacjentka pacjentki pacjentkę pacjenta sayın hasta
            hekim sĩ nhân bn врач врача врачу враче доктор доктора доктору профессор
            профессора профессору пациент пациента пациентка пациентки пациентке пациенту
            рентгенолог рентгенолога рентгенологу больной больная больного медсестра фио
            """
        ),
        True,
    ),
    (
        _BEHIND_TALK,
        _words(
            """
            with d to informed notified telephoned phoned paged called by cc c attn signed
            per from
            """
        ),
        True,
    ),
    (
        _RELATIVES,
        _words(
            """
            mother father wife husband son daughter brother spouse partner carer mum mom dad
            guardian aunt uncle grandmother grandfather mutter vater ehefrau ehemann tochter
            sohn épouse mari fille fils madre padre hijo hija esposa żona mąż córka syn жена
            муж мать отец
            """
        ),
        True,
    ),
    (
        _COMING,
        _words(
            """
            from by at hospital to in of dem praxis for de
            """
        ),
        True,
    ),
    (
        _HOUSES,
        _words(
            """
            clínica clinica chu chr centre azienda policlinico policlínica policlinica polyclinique
            sanatorio sanatorium hospital przychodnia nemocnice lasaret lasarett больница клиника
            поликлиника
            """
        ),
        True,
    ),
    (
        _CENTERS,
        _words(
            """
            ctr center centre hosp practice surgery trust home group szpital hastanesi
            sairaala sjukhus sykehus ziekenhuis kórház nemocnice hospice
            """
        ),
        True,
    ),
)
"""Each pattern with words one of which a text must have, and whether a text in capitals is passed
over: in it, what follows such a word is as often no name."""
_SAINT_WORDS = frozenset({"st", "saint", "sankt", "ste", "sainte", "sint"})
_ADDRESS_SIGNS = re.compile(
    r"(?i)\bbox|[A-Z]\d[A-Z]? ?\d[A-Z]|[A-Z]\d\d ?\d[A-Z]|[A-Z]{2} \d{5}|\d[a-z]? [^\W\d_]|"
    r"(?:str\.|stra(?:ß|ss)e|weg|allee|platz|gasse) ?\d"
)


def find_roles(text: str, tokens: frozenset[str]) -> list[tuple[int, int]]:
    """Return where persons and places are named so; unordered. ``tokens`` are its words, lower."""
    spans: list[tuple[int, int]] = []
    if not text.isascii():
        for match in _EAST.finditer(text):
            group = match.lastgroup or ""
            if not _NOT_EAST.match(match[group]):
                spans.append(match.span(group))
    if len(text) < 6:
        return spans
    upper = text.isupper()
    for pattern, triggers, mixed in _TRIGGERED:
        if tokens.isdisjoint(triggers) or (mixed and upper):
            continue
        for match in pattern.finditer(text):
            if pattern is _BEHIND_ROLE and _MARY_JOSEPH.match(match.group()):
                continue
            found = _name_in(text, *match.span("x"), mixed=mixed)
            if found is not None and pattern is _CENTERS:
                found = found[0], match.end()
            elif found is not None and pattern is _HOUSES:
                found = match.start(), found[1]
            if found is not None:
                spans.append(found)
    if not tokens.isdisjoint(_SAINT_WORDS):
        spans += [match.span() for match in _SAINTS.finditer(text)]
    if _DIGIT.search(text) and _ADDRESS_SIGNS.search(text):
        spans += [
            match.span() for match in _ADDRESSES.finditer(text) if _DIGIT.search(match.group())
        ]
    return spans


def _name_in(text: str, start: int, end: int, *, mixed: bool = False) -> tuple[int, int] | None:
    """Return the stretch up to its last word that may be a name; None without such a word."""
    telling: list[int] = []
    for match in _WORD.finditer(text, start, end):
        word = match.group()
        if len(word) < 2 or (mixed and word[0].islower()):
            continue
        if word.lower() in words() or _TEAMS.search(word):
            if not telling:
                # What begins with a word of the trade names a service.
                if mixed:
                    return None
                continue
            break
        if mixed and not _SPACED_NAME.match(word):
            continue
        telling.append(match.end())
    if not telling:
        return None
    tail = _TAIL.match(text, telling[-1], end)
    return start, tail.end() if tail else telling[-1]
