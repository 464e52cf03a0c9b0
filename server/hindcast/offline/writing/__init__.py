"""What is written to sources and beside them: `columns` of pushed values, `parts` of a source, `tables` in Delta, and `outputs` that appear whole."""
