"""Bytes on disk or in a bucket: the packing plan, Zarr arrays, Parquet fragments, locks, the DuckDB index."""
