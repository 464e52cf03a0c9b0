"""The room that serves training sets to callers elsewhere: `hindcast.v1.TrainingSets`, in a process of its own.

Building takes gigabytes and minutes, so nothing of it happens in a process that answers lookups. `process` is the server, `handlers` has the RPCs;
`requests` reads what is asked for (`confinement` says which files it may name, `uploads` takes entity frames that are sent, `patience` says how long it
waits for them), `jobs` is the queue, and `answers` writes what came of it. What a caller's rows or SQL could bring down is done in a process behind the
server, `work`: `job_process` starts it, ends it and hears of it, and `orders` are what the two say to each other.
"""
