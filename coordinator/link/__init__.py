"""The gRPC service: one port, mutual TLS always, a role for every caller."""
