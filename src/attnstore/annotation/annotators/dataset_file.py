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
        """Describe the content of the file."""
        return f"{self.source} {files.file_crc32c(self._file)} {self._file.stat().st_size}"

    def refuse_others(self, texts: pl.DataFrame, file_texts: Sequence[str]) -> None:
        """Raise DatasetError unless the dataset's texts are the file's, in order."""
        if len(file_texts) != len(texts):
            raise DatasetError(
                f"{self._file} holds {len(file_texts)} texts and the dataset {len(texts)}; "
                "give the file that the dataset was read from."
            )
        for in_file, (example, text) in zip(
            file_texts, texts.select("example", "text").iter_rows(), strict=True
        ):
            if in_file != text:
                raise DatasetError(
                    f"Example {example} is {text!r:.60} and text {example} of {self._file} is "
                    f"{in_file!r:.60}; give the file that the dataset was read from."
                )
