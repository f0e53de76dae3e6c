"""The server's half: rounds of queries, and no model."""

import random
import time

import numpy as np
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    """Add up histograms."""
    for number in range(context.run_config["num-server-rounds"]):
        nodes = []
        while len(nodes) < 2:
            nodes = list(grid.get_node_ids())
            if len(nodes) >= 2:
                break
            time.sleep(2)
        asked = random.sample(nodes, int(len(nodes) * context.run_config["fraction-sample"]))
        content = RecordDict()
        messages = [
            Message(
                content=content,
                message_type=MessageType.QUERY,
                dst_node_id=node,
                group_id=str(number),
                ttl=120,
            )
            for node in asked
        ]
        total = np.zeros(4, int)
        for reply in grid.send_and_receive(messages):
            if reply.has_error():
                continue
            total += np.array(reply.content["query_results"]["age"])
        print("ages", total.tolist())
