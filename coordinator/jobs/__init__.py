"""The life of a job: its states as a table, its record in the database, its offers."""
