"""A client that adds one."""

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.common import Context


class Client(NumPyClient):
    """Holds nothing."""

    def get_parameters(self, config):
        """Return what nobody should ask for."""
        return [np.zeros(2)]

    def fit(self, parameters, config):
        """Add one."""
        return [parameter + 1 for parameter in parameters], 60, {"calls": 1}

    def evaluate(self, parameters, config):
        """Report the largest number."""
        return float(parameters[0].max()), 60, {}


def client_fn(context: Context):
    """Make a client."""
    return Client().to_client()


app = ClientApp(client_fn=client_fn)
