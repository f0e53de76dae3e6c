"""What one site does in each round instead of training; in rounds of "" it trains as all do."""

UNSOUND = [
    "nan", "infinite", "huge", "odd-key", "one-more", "odd-shape", "odd-dtype", "none",
    "heavy", "negative", "no-weight", "odd-metric",
]  # fmt: skip
PLANS = {"unsound": ["", *UNSOUND, ""], "broken": ["", "raise", "slow", ""]}
SECONDS = {"slow": 20}
"""How long a round is waited for."""
