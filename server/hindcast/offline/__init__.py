"""The offline room: sources come in, point-in-time rows go out, through DuckDB. Feast reaches it by `plugin`."""
