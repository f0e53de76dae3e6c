"""What the catalogue is asked with every question: statements that are rendered once."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from foundation.statements import Prepared
from node.catalog import schema

_J, _A = schema.jobs.c, schema.answers.c


def _asked(column: ColumnElement[str]) -> Prepared:
    """Count up to ``most`` jobs of a consortium in which a column is ``name``."""
    some = (
        select(_J.received_at)
        .where(
            _J.received_at > bindparam("since"),
            _J.consortium == bindparam("consortium"),
            column == bindparam("name"),
        )
        .limit(bindparam("most"))
    )
    return Prepared(select(func.count()).select_from(some.subquery()))


_R, _G = schema.releases.c, schema.grants.c
LISTED = Prepared(
    select(_G.project, _G.release)
    .join(schema.releases, _R.digest == _G.release)
    .join(
        schema.projects,
        and_(schema.projects.c.consortium == _G.consortium, schema.projects.c.name == _G.project),
    )
    .where(_G.consortium == bindparam("consortium"), _R.revoked_at.is_(None))
    .order_by(_G.project, _G.release)
)
APPROVED_RECIPES = Prepared(
    select(schema.recipes.c.bundle).where(schema.recipes.c.withdrawn_at.is_(None))
)
DECIDED = Prepared(select(func.count(), func.max(schema.decisions.c.made_at)))
APPROVED = Prepared(
    select(schema.projects.c.approved_digest).where(
        schema.projects.c.consortium == bindparam("consortium"),
        schema.projects.c.name == bindparam("name"),
    )
)
SEEN = Prepared(select(_J.digest, _J.state).where(_J.nonce == bindparam("nonce")))
ASKED_BY, ASKED_UNDER = _asked(_J.researcher), _asked(_J.project)
ADD_JOB = Prepared(insert(schema.jobs))
ADD_ANSWER = Prepared(insert(schema.answers))
_OF_TASK = (_A.job == bindparam("job"), _A.task == bindparam("task"))
ANSWER = Prepared(
    select(_A.payload, _A.tensors_digest, _A.tensors_size, _A.receipt, _A.received).where(*_OF_TASK)
)
DROP_ANSWER = Prepared(delete(schema.answers).where(*_OF_TASK))
DROP_ANSWERS = Prepared(delete(schema.answers).where(_A.job == bindparam("job")))
HAS_ANSWERED = Prepared(select(literal(1)).where(_A.job == bindparam("job")).limit(1))
IS_OF = Prepared(
    select(literal(1)).where(
        _J.digest == bindparam("job"), _J.consortium == bindparam("consortium")
    )
)
RECEIVED = Prepared(
    update(schema.answers)
    .where(
        *_OF_TASK,
        exists().where(_J.digest == _A.job, _J.consortium == bindparam("consortium")),
    )
    .values(received=True)
)
CLOSE = Prepared(
    update(schema.jobs)
    .where(_J.digest == bindparam("job"), or_(_J.state == "accepted", _J.state == "waiting"))
    .values(state="closed", closed_at=bindparam("now"))
)
NOT_HELD = Prepared(
    update(schema.inbox)
    .where(schema.inbox.c.job == bindparam("job"), schema.inbox.c.state == "waiting")
    .values(state="over", payload=None)
)
DECISIONS = Prepared(
    select(schema.decisions.c.envelope)
    .where(schema.decisions.c.subject == bindparam("subject"))
    .order_by(schema.decisions.c.made_at)
)
FORGOTTEN = Prepared(select(literal(1)).where(schema.forgotten_jobs.c.digest == bindparam("job")))
_R, _G = schema.releases.c, schema.grants.c
GRANTED = Prepared(
    select(literal(1))
    .select_from(schema.grants.join(schema.releases, _G.release == _R.digest))
    .where(
        _G.release == bindparam("release"),
        _G.consortium == bindparam("consortium"),
        _G.project == bindparam("project"),
        _R.revoked_at.is_(None),
    )
)
SUBJECTS = Prepared(select(_R.subjects).where(_R.digest == bindparam("release")))
