"""``wardgate-node`` as a process of a test's own."""

from node.cli import main

if __name__ == "__main__":
    main()
