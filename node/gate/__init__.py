"""The gate: what may be asked here, what may leave, and the record of every byte that did."""
