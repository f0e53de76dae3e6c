"""A NumPyClient, as Flower's older tutorials have it."""

from pathlib import Path

import numpy as np
import polars as pl
from flwr.client import ClientApp, NumPyClient


class Client(NumPyClient):
    """Moves the parameter halfway to the mean age."""

    def __init__(self, folder):
        [path] = Path(folder).glob("tables/*.parquet")
        self.age = pl.read_parquet(path)["age"].to_numpy()

    def fit(self, parameters, config):
        """Return the parameter halfway to this site's mean."""
        halfway = (parameters[0] + np.array([self.age.mean()])) / 2
        return [halfway], len(self.age), {}

    def evaluate(self, parameters, config):
        """Return the distance to this site's mean."""
        return float(abs(parameters[0][0] - self.age.mean())), len(self.age), {}


def client_fn(context):
    """Return the client of this site."""
    return Client(context.node_config["data-path"]).to_client()


app = ClientApp(client_fn=client_fn)
