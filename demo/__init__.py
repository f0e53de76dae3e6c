"""Four hospitals, a coordinator and a researcher on one machine: real processes, TLS and data."""
