"""Speed and memory of attnstore, each figure a ratio or a rate within one run: `make bench`.

    python -m benchmarks [--quick] [--only NAME]

A group of figures is one module here with a function `measure`; `storages/` holds the ways that
people keep attention today, one file each. `common` times and starts fresh processes, `report`
prints the table and writes docs/benchmarks.md.
"""
