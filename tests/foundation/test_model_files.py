"""A model's file is what the safetensors library writes, and its digest that of the file."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.errors import DocumentError
from contract.records import DTYPES
from foundation.model_files import digest_of, pieces

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
        lambda name: name != "__metadata__"
    ),
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0))
    ),
    max_size=6,
)


@given(ARRAYS)
def test_the_bytes_are_those_of_the_library(arrays: dict[str, np.ndarray]) -> None:
    ours = b"".join(pieces(arrays))
    assert ours == safetensors.numpy.save(arrays)
    found = digest_of(arrays)
    assert (found.digest, found.size) == (hashlib.sha256(ours).hexdigest(), len(ours))


def test_an_array_that_is_no_block_of_memory_is_written_row_by_row() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(safetensors.numpy.load(b"".join(pieces({"a": array})))["a"], array)


def test_a_dtype_without_a_name_in_the_format_is_refused() -> None:
    with pytest.raises(DocumentError, match="dtype"):
        digest_of({"a": np.zeros(2, np.complex128)})
