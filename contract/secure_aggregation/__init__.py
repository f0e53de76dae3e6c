"""Secure aggregation: the coordinator learns a sum of the sites' vectors, and no site's own.

A pure state machine with its messages as data (``messages``): ``Client`` at a node, ``Server`` at
the coordinator. Bonawitz et al. 2017 in the variant for a server that lies, over the complete
graph; Bell et al. 2020 over a sparse graph, for many sites and a server that keeps to the protocol.
Training and statistics both use it.
"""

from contract.secure_aggregation.client import Client
from contract.secure_aggregation.fixed_point import FixedPoint
from contract.secure_aggregation.graph import Degree, degree
from contract.secure_aggregation.messages import Participant, Terms
from contract.secure_aggregation.server import Server

__all__ = ["Client", "Degree", "FixedPoint", "Participant", "Server", "Terms", "degree"]
