"""What every party's program stands on: files, settings, transport identity, commands, pages.

It knows nothing of questions, data or gates; it imports ``contract`` and nothing else of ours.
"""

import os

# gRPC's core writes lines of its own to standard error, unless it is told not to before it is
# imported; what matters comes as an error anyhow.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
