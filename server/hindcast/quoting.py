"""Names and text within SQL: DuckDB's, and that of deltalake's queries, which take no parameters."""


def quoted_name(name: str) -> str:
    """A name of a table or column, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text: str) -> str:
    """A constant of text, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
