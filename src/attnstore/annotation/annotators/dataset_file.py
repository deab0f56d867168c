"""An annotation that stands in the file that a dataset was read from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from attnstore.annotation.annotators.interface import Context
from attnstore.errors import DatasetError
from attnstore.storage import files


class FileAnnotator:
    """The annotation that stands in the file that a dataset was read from."""

    source: str
    suffix: str
    """Of the files that it reads."""

    def __init__(self, file: str, context: Context) -> None:
        if not file and not context.source.lower().endswith(self.suffix):
            raise DatasetError(
                f"The dataset {context.dataset!r} was read from {context.source}, which is no "
                f"{self.suffix} file; name the file with its annotation as {self.source}:FILE."
            )
        self._file = Path(os.path.expanduser(file or context.source))
        if not self._file.is_file():
            raise DatasetError(
                f"There is no file {self._file} any more or here; name it as {self.source}:FILE."
            )

    def identity(self) -> str:
        """The content of the file."""
        return f"{self.source} {files.file_crc32c(self._file)} {self._file.stat().st_size}"

    def refuse_others(self, texts: pl.DataFrame, own: Sequence[str]) -> None:
        """Raises DatasetError unless the dataset's texts are the file's, in order."""
        if len(own) != len(texts):
            raise DatasetError(
                f"{self._file} holds {len(own)} texts and the dataset {len(texts)}; "
                "give the file that the dataset was read from."
            )
        for mine, (example, text) in zip(
            own, texts.select("example", "text").iter_rows(), strict=True
        ):
            if mine != text:
                raise DatasetError(
                    f"Example {example} is {text!r:.60} and text {example} of {self._file} is "
                    f"{mine!r:.60}; give the file that the dataset was read from."
                )
