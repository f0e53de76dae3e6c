"""Data and settings."""

from pathlib import Path

import numpy as np
import polars as pl
import xgboost as xgb
from flwr.common.config import unflatten_dict


def load_data(path):
    """Return the data, and how much there is."""
    [file] = Path(path).glob("tables/*.parquet")
    table = pl.read_parquet(file)
    x = np.stack([table["age"].to_numpy(), (table["arm"] == "B").to_numpy()], axis=1)
    y = (table["outcome"] == "yes").to_numpy()
    return xgb.DMatrix(x.astype(np.float32), label=y.astype(np.float32)), len(y)


def parameters(run_config):
    """Return XGBoost's parameters of a run config."""
    found = unflatten_dict(run_config)["params"]
    return {key.replace("-", "_"): value for key, value in found.items()}
