"""What is held is counted: subjects, studies, observations, consents, groups, withdrawals."""

from __future__ import annotations

import zlib
from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CHUNK_BITS = 65_536
_UNDATED = -1_000_000


def upgrade() -> None:
    """Make the new tables, widen the old ones, and count the assets that are there."""
    _create()
    with op.batch_alter_table("assets") as assets:
        for name, length, default in (
            ("kind", 16, "dicom"),
            ("suffix", 16, ".dcm"),
            ("laterality", 16, ""),
            ("stain", 64, ""),
            ("device_model", 64, ""),
        ):
            assets.add_column(
                sa.Column(name, sa.String(length), server_default=default, nullable=False)
            )
        assets.add_column(sa.Column("study_date", sa.Date(), nullable=True))
        assets.add_column(
            sa.Column("magnification", sa.Float(), server_default="0", nullable=False)
        )
        assets.add_column(sa.Column("facet", sa.Integer(), nullable=True))
        assets.create_foreign_key(op.f("fk_assets_facet_facets"), "facets", ["facet"], ["number"])
        assets.drop_constraint(op.f("uq_assets_sop_instance_uid"), type_="unique")
    op.create_index(
        "ix_assets_sop_instance_uid",
        "assets",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("sop_instance_uid != ''"),
        postgresql_where=sa.text("sop_instance_uid != ''"),
    )
    op.add_column(
        "releases",
        sa.Column("revoked_reason", sa.String(32), server_default="", nullable=False),
    )
    _count()


def downgrade() -> None:
    """Consents and withdrawals can't be expressed in the older catalogue."""
    raise NotImplementedError


def _count() -> None:
    """Fill what cohorts are counted from. What was taken in until now has no date."""
    op.execute(
        "INSERT INTO subjects (subject, first_seen) "
        "SELECT subject, min(ingested_at) FROM assets GROUP BY subject ORDER BY subject"
    )
    op.execute(
        "INSERT INTO studies (study_uid, subject) "
        "SELECT a.study_uid, s.number FROM assets a JOIN subjects s ON s.subject = a.subject "
        "WHERE a.study_uid != '' GROUP BY a.study_uid, s.number ORDER BY s.number, a.study_uid"
    )
    op.execute(
        "INSERT INTO facets (kind, modality, body_part, laterality, manufacturer, device_model, "
        "stain, magnification, assets) "
        "SELECT 'dicom', modality, body_part, '', manufacturer, '', '', 0, count(*) FROM assets "
        "GROUP BY modality, body_part, manufacturer ORDER BY 2, 3, 5"
    )
    op.execute(
        "UPDATE assets SET facet = (SELECT f.number FROM facets f WHERE f.kind = 'dicom' "
        "AND f.modality = assets.modality AND f.body_part = assets.body_part "
        "AND f.manufacturer = assets.manufacturer)"
    )
    op.execute(
        "INSERT INTO strata (facet, day, subject, study, assets) "  # noqa: S608 (a constant)
        f"SELECT a.facet, {_UNDATED}, s.number, coalesce(t.number, 0), count(*) FROM assets a "
        "JOIN subjects s ON s.subject = a.subject "
        "LEFT JOIN studies t ON t.study_uid = a.study_uid AND t.subject = s.number "
        "GROUP BY a.facet, s.number, coalesce(t.number, 0)"
    )
    for holds, column in (("subjects", "subject"), ("studies", "study")):
        _post(holds, column)


def _post(holds: str, column: str) -> None:
    strata = sa.table("strata", sa.column("facet"), sa.column(column))
    postings = sa.table(
        "postings",
        sa.column("facet"),
        sa.column("holds"),
        sa.column("chunk"),
        sa.column("bits", sa.LargeBinary()),
    )
    connection = op.get_bind()
    number = strata.c[column]
    chunks: defaultdict[tuple[int, int], bytearray] = defaultdict(
        lambda: bytearray(_CHUNK_BITS // 8)
    )
    for facet, member in connection.execute(
        sa.select(strata.c.facet, number).where(number > 0).distinct()
    ):
        bits = chunks[facet, member // _CHUNK_BITS]
        bits[member % _CHUNK_BITS >> 3] |= 1 << (member & 7)
    rows = [
        {"facet": facet, "holds": holds, "chunk": chunk, "bits": zlib.compress(bits, 1)}
        for (facet, chunk), bits in sorted(chunks.items())
    ]
    if rows:
        connection.execute(sa.insert(postings), rows)


def _create() -> None:
    op.create_table(
        "subjects",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_subjects")),
        sa.UniqueConstraint("subject", name=op.f("uq_subjects_subject")),
    )
    op.create_table(
        "studies",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("date", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subject"], ["subjects.number"], name=op.f("fk_studies_subject_subjects")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_studies")),
        sa.UniqueConstraint("study_uid", "subject", name="uq_studies_study_uid"),
    )
    op.create_index(op.f("ix_studies_subject"), "studies", ["subject"], unique=False)
    op.create_table(
        "facets",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("body_part", sa.String(length=64), nullable=False),
        sa.Column("laterality", sa.String(length=16), nullable=False),
        sa.Column("manufacturer", sa.String(length=64), nullable=False),
        sa.Column("device_model", sa.String(length=64), nullable=False),
        sa.Column("stain", sa.String(length=64), nullable=False),
        sa.Column("magnification", sa.Float(), nullable=False),
        sa.Column("assets", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_facets")),
        sa.UniqueConstraint(
            "kind",
            "modality",
            "body_part",
            "laterality",
            "manufacturer",
            "device_model",
            "stain",
            "magnification",
            name="uq_facets_kind",
        ),
    )
    op.create_table(
        "postings",
        sa.Column("facet", sa.Integer(), nullable=False),
        sa.Column("holds", sa.String(length=8), nullable=False),
        sa.Column("chunk", sa.Integer(), nullable=False),
        sa.Column("bits", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["facet"], ["facets.number"], name=op.f("fk_postings_facet_facets")
        ),
        sa.PrimaryKeyConstraint("facet", "holds", "chunk", name="pk_postings"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "strata",
        sa.Column("facet", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("study", sa.Integer(), nullable=False),
        sa.Column("assets", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["facet"], ["facets.number"], name=op.f("fk_strata_facet_facets")),
        sa.ForeignKeyConstraint(
            ["subject"], ["subjects.number"], name=op.f("fk_strata_subject_subjects")
        ),
        sa.PrimaryKeyConstraint("facet", "day", "subject", "study", name="pk_strata"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sources",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sources")),
    )
    op.create_index(op.f("ix_sources_name"), "sources", ["name"], unique=False)
    op.create_table(
        "terms",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_terms")),
        sa.UniqueConstraint("system", "code", name="uq_terms_system"),
    )
    op.create_table(
        "observations",
        sa.Column("number", _COUNTER, nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("value_number", sa.Float(), nullable=True),
        sa.Column("value_term", sa.Integer(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["source"], ["sources.number"], name=op.f("fk_observations_source_sources")
        ),
        sa.ForeignKeyConstraint(
            ["subject"], ["subjects.number"], name=op.f("fk_observations_subject_subjects")
        ),
        sa.ForeignKeyConstraint(
            ["term"], ["terms.number"], name=op.f("fk_observations_term_terms")
        ),
        sa.ForeignKeyConstraint(
            ["value_term"], ["terms.number"], name=op.f("fk_observations_value_term_terms")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_observations")),
    )
    op.create_index(op.f("ix_observations_source"), "observations", ["source"], unique=False)
    op.create_index(
        "ix_observations_term", "observations", ["term", "subject", "time"], unique=False
    )
    op.create_table(
        "reported_studies",
        sa.Column("number", _COUNTER, nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["source"], ["sources.number"], name=op.f("fk_reported_studies_source_sources")
        ),
        sa.ForeignKeyConstraint(
            ["subject"], ["subjects.number"], name=op.f("fk_reported_studies_subject_subjects")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reported_studies")),
    )
    op.create_index(
        op.f("ix_reported_studies_source"), "reported_studies", ["source"], unique=False
    )
    op.create_index(
        op.f("ix_reported_studies_study_uid"), "reported_studies", ["study_uid"], unique=False
    )
    op.create_table(
        "findings",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("variable", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_findings")),
    )
    op.create_index(op.f("ix_findings_source"), "findings", ["source"], unique=False)
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_groups")),
    )
    op.create_index(op.f("ix_groups_subject"), "groups", ["subject"], unique=False)
    op.create_table(
        "group_links",
        sa.Column("group", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(
            ["group"], ["groups.name"], name=op.f("fk_group_links_group_groups")
        ),
        sa.PrimaryKeyConstraint("group", "role", "kind", "target", name=op.f("pk_group_links")),
    )
    op.create_table(
        "consents",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("starts", sa.Date(), nullable=True),
        sa.Column("ends", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(
            ["source"], ["sources.number"], name=op.f("fk_consents_source_sources")
        ),
        sa.ForeignKeyConstraint(
            ["subject"], ["subjects.number"], name=op.f("fk_consents_subject_subjects")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_consents")),
    )
    op.create_index(op.f("ix_consents_source"), "consents", ["source"], unique=False)
    op.create_index(op.f("ix_consents_subject"), "consents", ["subject"], unique=False)
    op.create_table(
        "consent_purposes",
        sa.Column("consent", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(
            ["consent"], ["consents.number"], name=op.f("fk_consent_purposes_consent_consents")
        ),
        sa.PrimaryKeyConstraint("consent", "purpose", name=op.f("pk_consent_purposes")),
    )
    op.create_table(
        "withdrawals",
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released", sa.Boolean(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_withdrawals")),
    )
    op.create_table(
        "release_index",
        sa.Column("release", sa.String(length=64), nullable=False),
        sa.Column("population", sa.String(length=64), nullable=False),
        sa.Column("seals", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["release"], ["releases.digest"], name=op.f("fk_release_index_release_releases")
        ),
        sa.PrimaryKeyConstraint("release", name=op.f("pk_release_index")),
    )
    op.create_index(
        op.f("ix_release_index_population"), "release_index", ["population"], unique=False
    )
    op.create_table(
        "omissions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("population", sa.String(length=64), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_omissions")),
        sa.UniqueConstraint("population", "subject", name="uq_omissions_population"),
    )
