"""Point-in-time reads: a frame and views come in, the frame's rows with each view's values go out (docs/decisions/0023-as-of-plan.md).

`reading` is the way in; `joinkeys` numbers keys, `narrow` sorts a source's rows, `merge` finds each row's newest, `wide` fetches values, `answer` puts them in
order, and `explain` says beforehand what that takes.
"""
