"""The one connection to each coordinator: outbound, mutual TLS, resumed after every break."""
