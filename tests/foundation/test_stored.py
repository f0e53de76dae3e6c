"""A message whose tensors stay on disk reads as one that is in memory, and takes no memory."""

import hashlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.records import DTYPES, Arrays, Metrics
from coordinator.work.training.checks import is_finite
from foundation import stored, tensors
from foundation.flower import array_of, from_flower, to_flower

ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))
)
GROUPS = st.dictionaries(st.text(max_size=5), ARRAYS, max_size=4)


@given(first=GROUPS, second=GROUPS)
def test_what_is_stored_reads_as_what_is_in_memory(first, second):
    encoded = tensors.encode({"a": Arrays(first), "m": Metrics({"n": 1}), "b": Arrays(second)})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        path.write_bytes(encoded.blob)
        content = to_flower(stored.read_stored(encoded.message, path))
        back = from_flower(content)
        for name, group in (("a", first), ("b", second)):
            assert list(back[name].items) == list(group)
            for key, array in group.items():
                assert back[name].items[key].tobytes() == array.tobytes()
                assert back[name].items[key].shape == array.shape
                assert back[name].items[key].dtype == array.dtype
                assert np.load(_file(content[name][key].data)).tobytes() == array.tobytes()
        assert back["m"].items == {"n": 1}


def _file(data):
    import io

    return io.BytesIO(data)


@given(body=st.binary(max_size=40), header=st.binary(max_size=40), declared=st.integers(0, 60))
def test_no_file_of_a_stranger_raises_anything_but_a_document_error(body, header, declared):
    blob = len(header).to_bytes(8, "little") + header + body
    message = wire.RecordDict()
    message.records.add(name="r", kind=wire.Record.ARRAYS).arrays.add(key="k", dtype="bool")
    message.tensors.size = len(blob) if declared == 60 else declared
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        path.write_bytes(blob)
        with pytest.raises(DocumentError):
            stored.read_stored(message, path)


def test_an_array_of_more_than_numpy_can_shape_is_refused(tmp_path):
    text = b'{"0":{"dtype":"F32","shape":[0,4611686018427387904,9],"data_offsets":[0,0]}}'
    blob = len(text).to_bytes(8, "little") + text
    message = wire.RecordDict()
    record = message.records.add(name="r", kind=wire.Record.ARRAYS)
    record.arrays.add(key="k", dtype="float32", shape=[0, 2**62, 9])
    message.tensors.size = len(blob)
    (tmp_path / "blob").write_bytes(blob)
    with pytest.raises(DocumentError):
        stored.read_stored(message, tmp_path / "blob")
    with pytest.raises(DocumentError):
        tensors.read(message, blob)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 70_000, 199_999])
def test_a_single_value_that_is_not_finite_is_found_wherever_it_is(tmp_path, dtype, bad, at):
    values = np.full(200_000, 60_000, dtype)  # whose sum is past float16
    array = _stored(tmp_path, values)
    assert is_finite(array)
    values[at] = bad
    assert not is_finite(_stored(tmp_path, values))


def _stored(folder, values):
    encoded = tensors.encode({"a": Arrays({"x": values})})
    path = folder / hashlib.sha256(encoded.blob).hexdigest()
    path.write_bytes(encoded.blob)
    return stored.read_stored(encoded.message, path)["a"].items["x"]


def test_a_file_that_is_cut_after_it_was_opened_is_noticed(tmp_path):
    array = _stored(tmp_path, np.arange(10.0))
    with array.path.open("r+b") as file:
        file.truncate(array.start + 8)
    with pytest.raises(DocumentError, match="cut"):
        array.read()
    with pytest.raises(DocumentError, match="cut"):
        list(array.pieces())


MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from contract import wire_pb2 as wire
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from coordinator.work.training.checks import is_finite
from foundation.flower import to_flower
from foundation.stored import read_stored

message = wire.RecordDict.FromString(Path(sys.argv[1] + "/message").read_bytes())
blob = Path(sys.argv[1] + "/blob")
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
held = [read_stored(message, blob) for _ in range(1200)]
assert all(is_finite(a) for one in held for a in one["arrays"].items.values())
mean = aggregate_arrayrecords([to_flower(one) for one in held], "num-examples")
np.testing.assert_allclose(mean["b"].numpy(), 1.0, rtol=1e-5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_flowers_average_of_more_replies_than_files_may_be_open_holds_a_few_of_them(tmp_path):
    one = np.ones(250_000, np.float32)
    encoded = tensors.encode(
        {"arrays": Arrays({"a": one, "b": one}), "metrics": Metrics({"num-examples": 3})}
    )
    (tmp_path / "message").write_bytes(encoded.message.SerializeToString())
    (tmp_path / "blob").write_bytes(encoded.blob)
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)),
    )
    # 1200 replies of 2 MB are 2.4 GB.
    assert int(done.stdout) < 64 * 1024


def test_an_array_given_on_is_what_it_was(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    array = _stored(tmp_path, values)
    content = to_flower({"a": stored.StoredArrays({"x": array})})
    mine = content["a"]["x"].numpy()
    mine[:] = 0
    assert array_of(content["a"]["x"]).tobytes() == values.tobytes()
