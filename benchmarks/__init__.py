"""The benchmarks: every table of the documents.

    python -m benchmarks                    # lists them
    python -m benchmarks unseen --workers 2

Run from the root of the repository; tables and records are written to `benchmarks/results`, those of trials with fewer
or shorter clips or with `--only` to `benchmarks/results/finished/trials`.
"""
