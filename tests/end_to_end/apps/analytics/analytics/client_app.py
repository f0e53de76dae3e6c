"""A site's half: a histogram."""

from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message, context):
    """Return counts of ages, and how many there are, of the table that the site names."""
    told = context.node_config
    path = Path(told["data-path"]) / "tables" / f"{told['table-name']}.parquet"
    age = pl.read_parquet(path)["age"].to_numpy()
    counts, _ = np.histogram(age, bins=np.linspace(0, 120, 5))
    metrics = MetricRecord({"age": counts.tolist(), "age_count": len(age)})
    return Message(RecordDict({"query_results": metrics}), reply_to=message)
