"""Nothing: the attack sends the tasks itself."""

from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    """Do nothing."""
