"""Partitions as a dataframe of Dask and as a dataset of Ray, read where their tasks run.

Columns keep their Arrow types, so that NULL stays NULL and an empty partition has the types of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from attnstore import extras
from attnstore.query.partitions import ROWS, Partition

if TYPE_CHECKING:
    import dask.dataframe
    import pandas as pd
    import ray.data


def dask_frame(partitions: Sequence[Partition], empty: pl.DataFrame) -> dask.dataframe.DataFrame:
    """Return a dataframe of Dask that reads only the columns that are used.

    Args:
        partitions: At least one; each is a partition of the frame.
        empty: A frame with the columns and types of their rows.

    Raises:
        MissingExtraError: Dask or pandas is not installed.
    """
    extras.require("dask", "pandas")
    import dask.dataframe

    return dask.dataframe.from_map(
        _pandas_rows, partitions, meta=_pandas(empty), label=f"attnstore-{partitions[0].view}"
    )


def _pandas_rows(partition: Partition, columns: list[str]) -> pd.DataFrame:
    """Read a partition for Dask, which finds by its parameter that columns can be chosen."""
    import pandas as pd

    if not columns:  # such as len(frame)
        (n,) = partition.sql(f"SELECT count(*) FROM {ROWS}").row(0)
        return pd.DataFrame(index=pd.RangeIndex(n))
    return _pandas(partition.read(columns))


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows: pd.DataFrame = frame.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
    return rows


@dataclass(frozen=True)
class _Read:
    """Reads a partition in a task of Ray."""

    partition: Partition

    def __call__(self) -> list[pa.Table]:
        return [self.partition.read().to_arrow()]


def ray_dataset(partitions: Sequence[Partition], empty: pl.DataFrame) -> ray.data.Dataset:
    """Return a dataset of Ray whose read tasks read one partition each, with its columns.

    Args:
        partitions: At least one.
        empty: A frame with the columns and types of their rows.

    Raises:
        MissingExtraError: Ray or pandas is not installed.
    """
    extras.require("ray", "pandas")
    import ray.data
    from ray.data.block import BlockMetadata

    schema, unknown = empty.to_arrow().schema, BlockMetadata(None, None, None, None)

    class Rows(ray.data.Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(
            self, _parallelism: int, per_task_row_limit: int | None = None, **_: Any
        ) -> list[ray.data.ReadTask]:
            reads = map(_Read, partitions)
            return [ray.data.ReadTask(r, unknown, schema, per_task_row_limit) for r in reads]

    return ray.data.read_datasource(Rows(), override_num_blocks=len(partitions))
