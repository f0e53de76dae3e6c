from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("token", "name", "csr", "signing_key", "steward_key", "proof", "steward_proof")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    STEWARD_KEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    STEWARD_PROOF_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    name: str
    csr: bytes
    signing_key: str
    steward_key: str
    proof: bytes
    steward_proof: bytes
    def __init__(self, token: _Optional[bytes] = ..., name: _Optional[str] = ..., csr: _Optional[bytes] = ..., signing_key: _Optional[str] = ..., steward_key: _Optional[str] = ..., proof: _Optional[bytes] = ..., steward_proof: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class EnrolReply(_message.Message):
    __slots__ = ("certificate", "consortium")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    consortium: str
    def __init__(self, certificate: _Optional[bytes] = ..., consortium: _Optional[str] = ...) -> None: ...

class DocumentsRequest(_message.Message):
    __slots__ = ("proposed",)
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    proposed: bool
    def __init__(self, proposed: _Optional[bool] = ...) -> None: ...

class Documents(_message.Message):
    __slots__ = ("roster", "projects")
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    roster: bytes
    projects: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, roster: _Optional[bytes] = ..., projects: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SignDocumentRequest(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class LedgerHead(_message.Message):
    __slots__ = ("sequence", "hash")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    hash: bytes
    def __init__(self, sequence: _Optional[int] = ..., hash: _Optional[bytes] = ...) -> None: ...

class FromNode(_message.Message):
    __slots__ = ("hello", "heartbeat", "decision", "reply", "failed", "releases", "head", "countersigned")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    COUNTERSIGNED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Empty
    decision: Decision
    reply: Reply
    failed: TaskFailed
    releases: Releases
    head: HeadOffer
    countersigned: Countersignatures
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Empty, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., reply: _Optional[_Union[Reply, _Mapping]] = ..., failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., releases: _Optional[_Union[Releases, _Mapping]] = ..., head: _Optional[_Union[HeadOffer, _Mapping]] = ..., countersigned: _Optional[_Union[Countersignatures, _Mapping]] = ...) -> None: ...

class ToNode(_message.Message):
    __slots__ = ("welcome", "heartbeat", "documents", "offer", "task", "received", "close", "head", "countersigned")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    COUNTERSIGNED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat: Empty
    documents: Documents
    offer: Offer
    task: Task
    received: Received
    close: CloseJob
    head: HeadOffer
    countersigned: Countersignatures
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat: _Optional[_Union[Empty, _Mapping]] = ..., documents: _Optional[_Union[Documents, _Mapping]] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., received: _Optional[_Union[Received, _Mapping]] = ..., close: _Optional[_Union[CloseJob, _Mapping]] = ..., head: _Optional[_Union[HeadOffer, _Mapping]] = ..., countersigned: _Optional[_Union[Countersignatures, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "version", "ledger", "open_jobs")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    OPEN_JOBS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    version: str
    ledger: LedgerHead
    open_jobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[int] = ..., version: _Optional[str] = ..., ledger: _Optional[_Union[LedgerHead, _Mapping]] = ..., open_jobs: _Optional[_Iterable[str]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("ledger", "documents", "heartbeat_seconds", "head")
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ledger: LedgerHead
    documents: Documents
    heartbeat_seconds: int
    head: bytes
    def __init__(self, ledger: _Optional[_Union[LedgerHead, _Mapping]] = ..., documents: _Optional[_Union[Documents, _Mapping]] = ..., heartbeat_seconds: _Optional[int] = ..., head: _Optional[bytes] = ...) -> None: ...

class HeadOffer(_message.Message):
    __slots__ = ("envelope", "proofs")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    PROOFS_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    proofs: _containers.RepeatedCompositeFieldContainer[ConsistencyProof]
    def __init__(self, envelope: _Optional[bytes] = ..., proofs: _Optional[_Iterable[_Union[ConsistencyProof, _Mapping]]] = ...) -> None: ...

class ConsistencyProof(_message.Message):
    __slots__ = ("first", "path")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    first: int
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, first: _Optional[int] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Countersignatures(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Releases(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("name", "digest", "projects", "table", "subjects", "variables", "assets", "strata", "analyses", "sum_sites")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    ASSETS_FIELD_NUMBER: _ClassVar[int]
    STRATA_FIELD_NUMBER: _ClassVar[int]
    ANALYSES_FIELD_NUMBER: _ClassVar[int]
    SUM_SITES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    projects: _containers.RepeatedScalarFieldContainer[str]
    table: str
    subjects: int
    variables: _containers.RepeatedScalarFieldContainer[str]
    assets: _containers.RepeatedCompositeFieldContainer[AssetCount]
    strata: _containers.RepeatedScalarFieldContainer[str]
    analyses: _containers.RepeatedCompositeFieldContainer[AnalysisSet]
    sum_sites: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., projects: _Optional[_Iterable[str]] = ..., table: _Optional[str] = ..., subjects: _Optional[int] = ..., variables: _Optional[_Iterable[str]] = ..., assets: _Optional[_Iterable[_Union[AssetCount, _Mapping]]] = ..., strata: _Optional[_Iterable[str]] = ..., analyses: _Optional[_Iterable[_Union[AnalysisSet, _Mapping]]] = ..., sum_sites: _Optional[int] = ...) -> None: ...

class AnalysisSet(_message.Message):
    __slots__ = ("name", "variables", "joint", "products")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    JOINT_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    variables: _containers.RepeatedScalarFieldContainer[str]
    joint: _containers.RepeatedScalarFieldContainer[int]
    products: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., variables: _Optional[_Iterable[str]] = ..., joint: _Optional[_Iterable[int]] = ..., products: _Optional[_Iterable[int]] = ...) -> None: ...

class AssetCount(_message.Message):
    __slots__ = ("modality", "count")
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    modality: str
    count: int
    def __init__(self, modality: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    def __init__(self, job: _Optional[bytes] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("job", "accepted", "code", "sentence", "waiting")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    job: str
    accepted: bool
    code: str
    sentence: str
    waiting: bool
    def __init__(self, job: _Optional[str] = ..., accepted: _Optional[bool] = ..., code: _Optional[str] = ..., sentence: _Optional[str] = ..., waiting: _Optional[bool] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("job", "task", "message_type", "group", "ttl_seconds", "payload", "tensors")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    job: str
    task: str
    message_type: str
    group: str
    ttl_seconds: float
    payload: bytes
    tensors: BlobReference
    def __init__(self, job: _Optional[str] = ..., task: _Optional[str] = ..., message_type: _Optional[str] = ..., group: _Optional[str] = ..., ttl_seconds: _Optional[float] = ..., payload: _Optional[bytes] = ..., tensors: _Optional[_Union[BlobReference, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("job", "task", "payload", "tensors", "receipt")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    job: str
    task: str
    payload: bytes
    tensors: BlobReference
    receipt: bytes
    def __init__(self, job: _Optional[str] = ..., task: _Optional[str] = ..., payload: _Optional[bytes] = ..., tensors: _Optional[_Union[BlobReference, _Mapping]] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("job", "task", "code", "location")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    job: str
    task: str
    code: str
    location: str
    def __init__(self, job: _Optional[str] = ..., task: _Optional[str] = ..., code: _Optional[str] = ..., location: _Optional[str] = ...) -> None: ...

class Received(_message.Message):
    __slots__ = ("job", "task")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    job: str
    task: str
    def __init__(self, job: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class CloseJob(_message.Message):
    __slots__ = ("job", "state")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    job: str
    state: str
    def __init__(self, job: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class BlobReference(_message.Message):
    __slots__ = ("digest", "size")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("job", "blob", "offset")
    JOB_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    job: str
    blob: BlobReference
    offset: int
    def __init__(self, job: _Optional[str] = ..., blob: _Optional[_Union[BlobReference, _Mapping]] = ..., offset: _Optional[int] = ...) -> None: ...

class BlobStatus(_message.Message):
    __slots__ = ("offset", "complete")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    offset: int
    complete: bool
    def __init__(self, offset: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("job", "blob", "offset", "data")
    JOB_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    job: str
    blob: BlobReference
    offset: int
    data: bytes
    def __init__(self, job: _Optional[str] = ..., blob: _Optional[_Union[BlobReference, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Scalar(_message.Message):
    __slots__ = ("integer", "real", "text", "data", "flag")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    integer: int
    real: float
    text: str
    data: bytes
    flag: bool
    def __init__(self, integer: _Optional[int] = ..., real: _Optional[float] = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ..., flag: _Optional[bool] = ...) -> None: ...

class ScalarList(_message.Message):
    __slots__ = ("kind", "integers", "reals", "texts", "data", "flags")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        INTEGER: _ClassVar[ScalarList.Kind]
        REAL: _ClassVar[ScalarList.Kind]
        TEXT: _ClassVar[ScalarList.Kind]
        DATA: _ClassVar[ScalarList.Kind]
        FLAG: _ClassVar[ScalarList.Kind]
    INTEGER: ScalarList.Kind
    REAL: ScalarList.Kind
    TEXT: ScalarList.Kind
    DATA: ScalarList.Kind
    FLAG: ScalarList.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    REALS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    kind: ScalarList.Kind
    integers: _containers.RepeatedScalarFieldContainer[int]
    reals: _containers.RepeatedScalarFieldContainer[float]
    texts: _containers.RepeatedScalarFieldContainer[str]
    data: _containers.RepeatedScalarFieldContainer[bytes]
    flags: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, kind: _Optional[_Union[ScalarList.Kind, str]] = ..., integers: _Optional[_Iterable[int]] = ..., reals: _Optional[_Iterable[float]] = ..., texts: _Optional[_Iterable[str]] = ..., data: _Optional[_Iterable[bytes]] = ..., flags: _Optional[_Iterable[bool]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "scalar", "list")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SCALAR_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    key: str
    scalar: Scalar
    list: ScalarList
    def __init__(self, key: _Optional[str] = ..., scalar: _Optional[_Union[Scalar, _Mapping]] = ..., list: _Optional[_Union[ScalarList, _Mapping]] = ...) -> None: ...

class ArraySpec(_message.Message):
    __slots__ = ("key", "dtype", "shape")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("name", "kind", "arrays", "entries")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ARRAYS: _ClassVar[Record.Kind]
        METRICS: _ClassVar[Record.Kind]
        CONFIG: _ClassVar[Record.Kind]
    ARRAYS: Record.Kind
    METRICS: Record.Kind
    CONFIG: Record.Kind
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: Record.Kind
    arrays: _containers.RepeatedCompositeFieldContainer[ArraySpec]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[Record.Kind, str]] = ..., arrays: _Optional[_Iterable[_Union[ArraySpec, _Mapping]]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class RecordDict(_message.Message):
    __slots__ = ("records", "tensors")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    tensors: BlobReference
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., tensors: _Optional[_Union[BlobReference, _Mapping]] = ...) -> None: ...

class Moments(_message.Message):
    __slots__ = ("n", "missing", "mean", "m2", "mean_low")
    N_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    M2_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOW_FIELD_NUMBER: _ClassVar[int]
    n: int
    missing: int
    mean: float
    m2: float
    mean_low: float
    def __init__(self, n: _Optional[int] = ..., missing: _Optional[int] = ..., mean: _Optional[float] = ..., m2: _Optional[float] = ..., mean_low: _Optional[float] = ...) -> None: ...

class Counts(_message.Message):
    __slots__ = ("missing", "counts", "below", "above")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    ABOVE_FIELD_NUMBER: _ClassVar[int]
    missing: int
    counts: _containers.RepeatedScalarFieldContainer[int]
    below: int
    above: int
    def __init__(self, missing: _Optional[int] = ..., counts: _Optional[_Iterable[int]] = ..., below: _Optional[int] = ..., above: _Optional[int] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("n", "missing", "mean", "m2", "m3", "m4")
    N_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    M2_FIELD_NUMBER: _ClassVar[int]
    M3_FIELD_NUMBER: _ClassVar[int]
    M4_FIELD_NUMBER: _ClassVar[int]
    n: int
    missing: int
    mean: float
    m2: float
    m3: float
    m4: float
    def __init__(self, n: _Optional[int] = ..., missing: _Optional[int] = ..., mean: _Optional[float] = ..., m2: _Optional[float] = ..., m3: _Optional[float] = ..., m4: _Optional[float] = ...) -> None: ...

class CoMoments(_message.Message):
    __slots__ = ("n", "missing", "means", "products")
    N_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MEANS_FIELD_NUMBER: _ClassVar[int]
    PRODUCTS_FIELD_NUMBER: _ClassVar[int]
    n: int
    missing: int
    means: _containers.RepeatedScalarFieldContainer[float]
    products: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, n: _Optional[int] = ..., missing: _Optional[int] = ..., means: _Optional[_Iterable[float]] = ..., products: _Optional[_Iterable[float]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("level", "moments", "counts", "shape", "comoments")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    COMOMENTS_FIELD_NUMBER: _ClassVar[int]
    level: str
    moments: Moments
    counts: Counts
    shape: Shape
    comoments: CoMoments
    def __init__(self, level: _Optional[str] = ..., moments: _Optional[_Union[Moments, _Mapping]] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ..., shape: _Optional[_Union[Shape, _Mapping]] = ..., comoments: _Optional[_Union[CoMoments, _Mapping]] = ...) -> None: ...

class NoiseTerm(_message.Message):
    __slots__ = ("figure", "mechanism", "scale", "half_width")
    FIGURE_FIELD_NUMBER: _ClassVar[int]
    MECHANISM_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    HALF_WIDTH_FIELD_NUMBER: _ClassVar[int]
    figure: str
    mechanism: str
    scale: float
    half_width: float
    def __init__(self, figure: _Optional[str] = ..., mechanism: _Optional[str] = ..., scale: _Optional[float] = ..., half_width: _Optional[float] = ...) -> None: ...

class Noise(_message.Message):
    __slots__ = ("epsilon", "delta", "confidence", "terms")
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    epsilon: float
    delta: float
    confidence: float
    terms: _containers.RepeatedCompositeFieldContainer[NoiseTerm]
    def __init__(self, epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., confidence: _Optional[float] = ..., terms: _Optional[_Iterable[_Union[NoiseTerm, _Mapping]]] = ...) -> None: ...

class StatisticPart(_message.Message):
    __slots__ = ("withheld", "groups", "lane", "noise")
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    withheld: bool
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    lane: str
    noise: Noise
    def __init__(self, withheld: _Optional[bool] = ..., groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., lane: _Optional[str] = ..., noise: _Optional[_Union[Noise, _Mapping]] = ...) -> None: ...

class StatisticsAnswer(_message.Message):
    __slots__ = ("parts", "account")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[StatisticPart]
    account: Account
    def __init__(self, parts: _Optional[_Iterable[_Union[StatisticPart, _Mapping]]] = ..., account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("spent", "remaining")
    SPENT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    spent: float
    remaining: float
    def __init__(self, spent: _Optional[float] = ..., remaining: _Optional[float] = ...) -> None: ...

class SiteAccount(_message.Message):
    __slots__ = ("site", "account")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    site: str
    account: Account
    def __init__(self, site: _Optional[str] = ..., account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class ModelStep(_message.Message):
    __slots__ = ("parts", "check")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[SignedPart]
    check: bool
    def __init__(self, parts: _Optional[_Iterable[_Union[SignedPart, _Mapping]]] = ..., check: _Optional[bool] = ...) -> None: ...

class SignedPart(_message.Message):
    __slots__ = ("payload", "receipt")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    receipt: bytes
    def __init__(self, payload: _Optional[bytes] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class ModelPart(_message.Message):
    __slots__ = ("n", "information", "score", "deviance", "pearson", "weight", "constant", "ending", "told", "low", "missing")
    N_FIELD_NUMBER: _ClassVar[int]
    INFORMATION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    DEVIANCE_FIELD_NUMBER: _ClassVar[int]
    PEARSON_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONSTANT_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    n: int
    information: _containers.RepeatedScalarFieldContainer[float]
    score: _containers.RepeatedScalarFieldContainer[float]
    deviance: float
    pearson: float
    weight: float
    constant: float
    ending: ModelEnding
    told: bytes
    low: _containers.RepeatedScalarFieldContainer[float]
    missing: int
    def __init__(self, n: _Optional[int] = ..., information: _Optional[_Iterable[float]] = ..., score: _Optional[_Iterable[float]] = ..., deviance: _Optional[float] = ..., pearson: _Optional[float] = ..., weight: _Optional[float] = ..., constant: _Optional[float] = ..., ending: _Optional[_Union[ModelEnding, _Mapping]] = ..., told: _Optional[bytes] = ..., low: _Optional[_Iterable[float]] = ..., missing: _Optional[int] = ...) -> None: ...

class ModelEnding(_message.Message):
    __slots__ = ("checks", "squares")
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SQUARES_FIELD_NUMBER: _ClassVar[int]
    checks: ModelChecks
    squares: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, checks: _Optional[_Union[ModelChecks, _Mapping]] = ..., squares: _Optional[_Iterable[float]] = ...) -> None: ...

class ModelChecks(_message.Message):
    __slots__ = ("score", "with_time", "with_square", "concordant", "discordant", "tied")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    WITH_TIME_FIELD_NUMBER: _ClassVar[int]
    WITH_SQUARE_FIELD_NUMBER: _ClassVar[int]
    CONCORDANT_FIELD_NUMBER: _ClassVar[int]
    DISCORDANT_FIELD_NUMBER: _ClassVar[int]
    TIED_FIELD_NUMBER: _ClassVar[int]
    score: _containers.RepeatedScalarFieldContainer[float]
    with_time: _containers.RepeatedScalarFieldContainer[float]
    with_square: _containers.RepeatedScalarFieldContainer[float]
    concordant: float
    discordant: float
    tied: float
    def __init__(self, score: _Optional[_Iterable[float]] = ..., with_time: _Optional[_Iterable[float]] = ..., with_square: _Optional[_Iterable[float]] = ..., concordant: _Optional[float] = ..., discordant: _Optional[float] = ..., tied: _Optional[float] = ...) -> None: ...

class ModelFit(_message.Message):
    __slots__ = ("n", "columns", "coefficients", "covariance", "dispersion", "deviance", "steps", "converged", "null_deviance", "log_likelihood", "events", "score_test", "proportionality", "concordant", "discordant", "tied", "sites", "site_effects", "each", "site_variance", "failed", "effects_fitted", "robust", "clusters", "missing")
    N_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    COVARIANCE_FIELD_NUMBER: _ClassVar[int]
    DISPERSION_FIELD_NUMBER: _ClassVar[int]
    DEVIANCE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FIELD_NUMBER: _ClassVar[int]
    NULL_DEVIANCE_FIELD_NUMBER: _ClassVar[int]
    LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SCORE_TEST_FIELD_NUMBER: _ClassVar[int]
    PROPORTIONALITY_FIELD_NUMBER: _ClassVar[int]
    CONCORDANT_FIELD_NUMBER: _ClassVar[int]
    DISCORDANT_FIELD_NUMBER: _ClassVar[int]
    TIED_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    SITE_EFFECTS_FIELD_NUMBER: _ClassVar[int]
    EACH_FIELD_NUMBER: _ClassVar[int]
    SITE_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FITTED_FIELD_NUMBER: _ClassVar[int]
    ROBUST_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    n: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    coefficients: _containers.RepeatedScalarFieldContainer[float]
    covariance: _containers.RepeatedScalarFieldContainer[float]
    dispersion: float
    deviance: float
    steps: int
    converged: bool
    null_deviance: float
    log_likelihood: float
    events: int
    score_test: float
    proportionality: _containers.RepeatedScalarFieldContainer[float]
    concordant: float
    discordant: float
    tied: float
    sites: _containers.RepeatedScalarFieldContainer[str]
    site_effects: _containers.RepeatedScalarFieldContainer[float]
    each: _containers.RepeatedCompositeFieldContainer[ModelFit]
    site_variance: float
    failed: str
    effects_fitted: int
    robust: _containers.RepeatedScalarFieldContainer[float]
    clusters: int
    missing: int
    def __init__(self, n: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ..., coefficients: _Optional[_Iterable[float]] = ..., covariance: _Optional[_Iterable[float]] = ..., dispersion: _Optional[float] = ..., deviance: _Optional[float] = ..., steps: _Optional[int] = ..., converged: _Optional[bool] = ..., null_deviance: _Optional[float] = ..., log_likelihood: _Optional[float] = ..., events: _Optional[int] = ..., score_test: _Optional[float] = ..., proportionality: _Optional[_Iterable[float]] = ..., concordant: _Optional[float] = ..., discordant: _Optional[float] = ..., tied: _Optional[float] = ..., sites: _Optional[_Iterable[str]] = ..., site_effects: _Optional[_Iterable[float]] = ..., each: _Optional[_Iterable[_Union[ModelFit, _Mapping]]] = ..., site_variance: _Optional[float] = ..., failed: _Optional[str] = ..., effects_fitted: _Optional[int] = ..., robust: _Optional[_Iterable[float]] = ..., clusters: _Optional[int] = ..., missing: _Optional[int] = ...) -> None: ...

class SumStep(_message.Message):
    __slots__ = ("terms", "keys", "shares", "survivors", "confirmations")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    terms: SumTerms
    keys: SumKeysOfAll
    shares: SumSharesOfAll
    survivors: SumSurvivors
    confirmations: SumConfirmations
    def __init__(self, terms: _Optional[_Union[SumTerms, _Mapping]] = ..., keys: _Optional[_Union[SumKeysOfAll, _Mapping]] = ..., shares: _Optional[_Union[SumSharesOfAll, _Mapping]] = ..., survivors: _Optional[_Union[SumSurvivors, _Mapping]] = ..., confirmations: _Optional[_Union[SumConfirmations, _Mapping]] = ...) -> None: ...

class SumReply(_message.Message):
    __slots__ = ("keys", "shares", "words", "confirmation", "revealed")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    CONFIRMATION_FIELD_NUMBER: _ClassVar[int]
    REVEALED_FIELD_NUMBER: _ClassVar[int]
    keys: SumKeys
    shares: SumSharesOfAll
    words: bytes
    confirmation: SumConfirmation
    revealed: SumRevealed
    def __init__(self, keys: _Optional[_Union[SumKeys, _Mapping]] = ..., shares: _Optional[_Union[SumSharesOfAll, _Mapping]] = ..., words: _Optional[bytes] = ..., confirmation: _Optional[_Union[SumConfirmation, _Mapping]] = ..., revealed: _Optional[_Union[SumRevealed, _Mapping]] = ...) -> None: ...

class SumTerms(_message.Message):
    __slots__ = ("sites", "minimum", "before", "check")
    SITES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedScalarFieldContainer[str]
    minimum: int
    before: SumRecord
    check: bool
    def __init__(self, sites: _Optional[_Iterable[str]] = ..., minimum: _Optional[int] = ..., before: _Optional[_Union[SumRecord, _Mapping]] = ..., check: _Optional[bool] = ...) -> None: ...

class SumRecord(_message.Message):
    __slots__ = ("vectors", "seeds")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[SignedPart]
    seeds: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, vectors: _Optional[_Iterable[_Union[SignedPart, _Mapping]]] = ..., seeds: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SumKeys(_message.Message):
    __slots__ = ("sender", "channel_key", "mask_key", "commitment", "signature")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_KEY_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    sender: int
    channel_key: bytes
    mask_key: bytes
    commitment: bytes
    signature: bytes
    def __init__(self, sender: _Optional[int] = ..., channel_key: _Optional[bytes] = ..., mask_key: _Optional[bytes] = ..., commitment: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SumKeysOfAll(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[SumKeys]
    def __init__(self, keys: _Optional[_Iterable[_Union[SumKeys, _Mapping]]] = ...) -> None: ...

class SumShares(_message.Message):
    __slots__ = ("sender", "receiver", "ciphertext")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXT_FIELD_NUMBER: _ClassVar[int]
    sender: int
    receiver: int
    ciphertext: bytes
    def __init__(self, sender: _Optional[int] = ..., receiver: _Optional[int] = ..., ciphertext: _Optional[bytes] = ...) -> None: ...

class SumSharesOfAll(_message.Message):
    __slots__ = ("shares",)
    SHARES_FIELD_NUMBER: _ClassVar[int]
    shares: _containers.RepeatedCompositeFieldContainer[SumShares]
    def __init__(self, shares: _Optional[_Iterable[_Union[SumShares, _Mapping]]] = ...) -> None: ...

class SumSurvivors(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, members: _Optional[_Iterable[int]] = ...) -> None: ...

class SumConfirmation(_message.Message):
    __slots__ = ("sender", "signature")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    sender: int
    signature: bytes
    def __init__(self, sender: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SumConfirmations(_message.Message):
    __slots__ = ("confirmations",)
    CONFIRMATIONS_FIELD_NUMBER: _ClassVar[int]
    confirmations: _containers.RepeatedCompositeFieldContainer[SumConfirmation]
    def __init__(self, confirmations: _Optional[_Iterable[_Union[SumConfirmation, _Mapping]]] = ...) -> None: ...

class SumShare(_message.Message):
    __slots__ = ("owner", "share")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    owner: int
    share: bytes
    def __init__(self, owner: _Optional[int] = ..., share: _Optional[bytes] = ...) -> None: ...

class SumRevealed(_message.Message):
    __slots__ = ("sender", "keys", "seeds")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    sender: int
    keys: _containers.RepeatedCompositeFieldContainer[SumShare]
    seeds: _containers.RepeatedCompositeFieldContainer[SumShare]
    def __init__(self, sender: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[SumShare, _Mapping]]] = ..., seeds: _Optional[_Iterable[_Union[SumShare, _Mapping]]] = ...) -> None: ...

class SiteList(_message.Message):
    __slots__ = ("sites",)
    SITES_FIELD_NUMBER: _ClassVar[int]
    sites: _containers.RepeatedCompositeFieldContainer[Site]
    def __init__(self, sites: _Optional[_Iterable[_Union[Site, _Mapping]]] = ...) -> None: ...

class Site(_message.Message):
    __slots__ = ("name", "online", "revoked", "releases")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    name: str
    online: bool
    revoked: bool
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, name: _Optional[str] = ..., online: _Optional[bool] = ..., revoked: _Optional[bool] = ..., releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    def __init__(self, job: _Optional[bytes] = ...) -> None: ...

class JobRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("job", "state", "reason", "sites")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SITES_FIELD_NUMBER: _ClassVar[int]
    job: str
    state: str
    reason: str
    sites: _containers.RepeatedCompositeFieldContainer[SiteStatus]
    def __init__(self, job: _Optional[str] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., sites: _Optional[_Iterable[_Union[SiteStatus, _Mapping]]] = ...) -> None: ...

class SiteStatus(_message.Message):
    __slots__ = ("site", "state", "code", "sentence", "open_tasks")
    SITE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    site: str
    state: str
    code: str
    sentence: str
    open_tasks: int
    def __init__(self, site: _Optional[str] = ..., state: _Optional[str] = ..., code: _Optional[str] = ..., sentence: _Optional[str] = ..., open_tasks: _Optional[int] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("sequence", "time", "kind", "site", "text", "round", "metrics", "status")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: float
    kind: str
    site: str
    text: str
    round: int
    metrics: _containers.RepeatedCompositeFieldContainer[Entry]
    status: JobStatus
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[float] = ..., kind: _Optional[str] = ..., site: _Optional[str] = ..., text: _Optional[str] = ..., round: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., status: _Optional[_Union[JobStatus, _Mapping]] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("status", "statistics", "answered", "model", "receipts", "rounds", "parts", "fit", "accounts", "absent_share")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_SHARE_FIELD_NUMBER: _ClassVar[int]
    status: JobStatus
    statistics: StatisticsAnswer
    answered: _containers.RepeatedScalarFieldContainer[str]
    model: bytes
    receipts: _containers.RepeatedScalarFieldContainer[bytes]
    rounds: _containers.RepeatedCompositeFieldContainer[JobEvent]
    parts: _containers.RepeatedCompositeFieldContainer[SitesOfPart]
    fit: ModelFit
    accounts: _containers.RepeatedCompositeFieldContainer[SiteAccount]
    absent_share: float
    def __init__(self, status: _Optional[_Union[JobStatus, _Mapping]] = ..., statistics: _Optional[_Union[StatisticsAnswer, _Mapping]] = ..., answered: _Optional[_Iterable[str]] = ..., model: _Optional[bytes] = ..., receipts: _Optional[_Iterable[bytes]] = ..., rounds: _Optional[_Iterable[_Union[JobEvent, _Mapping]]] = ..., parts: _Optional[_Iterable[_Union[SitesOfPart, _Mapping]]] = ..., fit: _Optional[_Union[ModelFit, _Mapping]] = ..., accounts: _Optional[_Iterable[_Union[SiteAccount, _Mapping]]] = ..., absent_share: _Optional[float] = ...) -> None: ...

class SitesOfPart(_message.Message):
    __slots__ = ("answered", "withheld", "unnamed", "missing_share", "partial", "too_much_missing", "too_much_missing_groups")
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    UNNAMED_FIELD_NUMBER: _ClassVar[int]
    MISSING_SHARE_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    TOO_MUCH_MISSING_FIELD_NUMBER: _ClassVar[int]
    TOO_MUCH_MISSING_GROUPS_FIELD_NUMBER: _ClassVar[int]
    answered: _containers.RepeatedScalarFieldContainer[str]
    withheld: _containers.RepeatedScalarFieldContainer[str]
    unnamed: int
    missing_share: float
    partial: _containers.RepeatedScalarFieldContainer[str]
    too_much_missing: bool
    too_much_missing_groups: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, answered: _Optional[_Iterable[str]] = ..., withheld: _Optional[_Iterable[str]] = ..., unnamed: _Optional[int] = ..., missing_share: _Optional[float] = ..., partial: _Optional[_Iterable[str]] = ..., too_much_missing: _Optional[bool] = ..., too_much_missing_groups: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelsRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class ModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ModelList(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelRecord]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelRecord, _Mapping]]] = ...) -> None: ...

class ModelRecord(_message.Message):
    __slots__ = ("digest", "size", "job", "project", "project_version", "researcher", "time", "recipe", "bundle", "bundle_name", "bundle_version", "strategy", "strategy_settings", "start_from", "answered", "model", "signed_job", "rounds", "receipts")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RESEARCHER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    START_FROM_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SIGNED_JOB_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    job: str
    project: str
    project_version: int
    researcher: str
    time: float
    recipe: str
    bundle: str
    bundle_name: str
    bundle_version: str
    strategy: str
    strategy_settings: _containers.RepeatedCompositeFieldContainer[Entry]
    start_from: str
    answered: _containers.RepeatedScalarFieldContainer[str]
    model: bytes
    signed_job: bytes
    rounds: _containers.RepeatedCompositeFieldContainer[JobEvent]
    receipts: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ..., job: _Optional[str] = ..., project: _Optional[str] = ..., project_version: _Optional[int] = ..., researcher: _Optional[str] = ..., time: _Optional[float] = ..., recipe: _Optional[str] = ..., bundle: _Optional[str] = ..., bundle_name: _Optional[str] = ..., bundle_version: _Optional[str] = ..., strategy: _Optional[str] = ..., strategy_settings: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., start_from: _Optional[str] = ..., answered: _Optional[_Iterable[str]] = ..., model: _Optional[bytes] = ..., signed_job: _Optional[bytes] = ..., rounds: _Optional[_Iterable[_Union[JobEvent, _Mapping]]] = ..., receipts: _Optional[_Iterable[bytes]] = ...) -> None: ...
