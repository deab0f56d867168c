"""What lies on disk: the packing plan, Zarr arrays, Parquet fragments, the DuckDB index."""
