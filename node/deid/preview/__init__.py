"""What de-identification does to one file, shown element by element. It shows identifiers."""
