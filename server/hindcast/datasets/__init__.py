"""The datasets room: training sets that can be built again and compared. Features, an entity frame and a point in time come in, and a
named, versioned folder of Parquet files with its manifest goes out.

`canonical` is the digest of a table's meaning (`column_types` and `column_bytes` of its columns, `hash_tree` over its blocks), and `proofs` prove
single rows by it; `statistics` sums up columns; `sign` signs.
"""
