"""The newest row of each key in an interval, for materialization.

`winners` is the way in; `candidates` and `order` make narrow batches, `few` and `newest` find the winners of few keys and of many, and `quarantine` keeps rows
dated ahead.
"""
