"""Damage small valid files of every format that is read, and count what becomes of them.

`seeds` makes the files, `mutations` damages them, `pool` reads them in child processes with limits of time and memory,
`child` is what runs there.
"""
