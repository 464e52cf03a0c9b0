"""Hindcast: Feast, with receipts.

The data's way through the rooms: catalog -> offline -> materialize -> online -> serving -> cli. `hindcast.v1` is the
public API as generated from protos/, shared with the client. Importing this package imports nothing else.
"""
