"""The datasets room: training sets that can be made again and compared. Features, an entity frame and a point in time come in, and a
named, versioned folder of Parquet files with its manifest goes out.

`sets` is the door. `retrieval` reads by Feast's definitions, which `definitions` records; `build` writes `parts` and a `manifest`, and `store` publishes
them. `canonical` is the digest of a table's meaning (`column_types` and `column_bytes` of its columns, `hash_tree` over its blocks), and `proofs` prove
single rows by it; `statistics` sums up columns; `sign` signs.
"""
