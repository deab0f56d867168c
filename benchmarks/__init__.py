"""Speed, memory and disk measured against the targets in docs/benchmarks.md.

python -m benchmarks                 every group, in minutes each
python -m benchmarks --only NAME     one group; its rows replace its earlier ones
python -m benchmarks --quick         smaller sizes, one repeat, nothing is kept
"""

GROUPS = (
    "ingest_speed", "norms", "memory", "size", "queries", "whole_maps", "dependencies", "start", "formats", "notebook", "ablating", "exploring", "training", "scaling",
    "workers", "cluster", "buckets", "gpu",
)  # fmt: skip
"""The modules with a function `measure`, in the order of the document."""
