"""Rules of Zarr's consolidated metadata: a run's group says what its arrays say, whatever is added to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import shrink, write_texts

import attnstore
from attnstore.maintenance import copying
from attnstore.maintenance.verify import verify
from attnstore.storage import arrays, location, zarr_metadata

RUN = "tiny/texts"
KIND = "value_zeroing"


@pytest.fixture(scope="module")
def made(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run, to read only."""
    folder = tmp_path_factory.mktemp("consolidated")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        texts = write_texts(folder / "texts.jsonl", 8, longest=16)
        attnstore.ingest(folder / "store", str(tiny_bert), str(texts), max_length=48)
    return folder / "store"


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that store."""
    shrink(monkeypatch)
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.fixture
def again(tiny_bert: Path, made: Path) -> Callable[..., Any]:
    """Ingests the run again, into a store."""

    def ingest(root: Path, **options: Any) -> None:
        texts = str(made.parent / "texts.jsonl")
        attnstore.ingest(root, str(tiny_bert), texts, max_length=48, **options)

    return ingest


def group(root: Path) -> Path:
    return root / arrays.FOLDER / RUN


def own(root: Path) -> dict[str, Any]:
    """What each array says in its own zarr.json, as zarr-python reads it alone."""
    names = [path.parent.name for path in group(root).glob("*/zarr.json")]
    return {
        n: repr(zarr.open_array(group(root) / n, mode="r").metadata) for n in names
    }  # NaN is not NaN


def held(root: Path) -> dict[str, Any]:
    """What the group alone says of its arrays, as zarr-python reads it."""
    opened = zarr.open_consolidated(group(root), zarr_format=3)
    return {name: repr(array.metadata) for name, array in opened.arrays()}


def before(root: Path) -> None:
    """Make the group one of an earlier version, byte by byte."""
    shape = zarr_metadata.recorded(location.locate(root), RUN)
    data = zarr_metadata.description(RUN, shape)[arrays.group_path(RUN)]
    assert b"consolidated" not in data
    (group(root) / "zarr.json").write_bytes(data)


def test_the_group_holds_every_array_as_the_array_itself(root: Path) -> None:
    """Coordinates, weights, received, and what capture writes beside them."""
    assert set(held(root)) == {"head", "layer", "maps", "received", "value_norm", "mixing"}
    assert held(root) == own(root)
    assert np.array_equal(zarr.open_consolidated(group(root))["head"][:], np.arange(4))
    assert verify(root).findings == []


def test_arrays_that_are_added_later_are_held_too(root: Path, again: Callable[..., None]) -> None:
    """A kind of maps, which a job of its own adds."""
    again(root, maps=["weights", KIND])
    assert KIND in held(root)
    assert held(root) == own(root)
    assert verify(root).findings == []


def test_a_run_of_an_earlier_version_goes_on(root: Path, again: Callable[..., None]) -> None:
    """Its group holds nothing: it is read, sound, copied and stays as it is, until an array is added."""
    with attnstore.open(root) as store:
        asked = "SELECT sum(list_sum(weights)) FROM maps"
        total = store.sql(asked).item()
    before(root)
    data = (group(root) / "zarr.json").read_bytes()
    again(root)
    assert (group(root) / "zarr.json").read_bytes() == data
    assert verify(root).findings == []
    with attnstore.open(root) as store:
        assert store.sql(asked).item() == total
    copying.copy(root, root.parent / "copy")
    assert (group(root.parent / "copy") / "zarr.json").read_bytes() == data
    assert verify(root.parent / "copy").findings == []
    again(root, maps=["weights", KIND])
    assert KIND in held(root)
    assert held(root) == own(root)
    assert verify(root).findings == []


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another shape": lambda held: held["maps"].update(shape=[1, 2, 3]),
    "an array less": lambda held: held.pop("value_norm"),
    "an array more": lambda held: held.update(other=held["maps"]),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_group_that_says_something_else_is_named(
    root: Path, again: Callable[..., None], change: str
) -> None:
    """By verify, in one sentence; ingesting the run again writes it anew."""
    file = group(root) / "zarr.json"
    document = json.loads(file.read_text())
    CHANGES[change](document["consolidated_metadata"]["metadata"])
    file.write_text(json.dumps(document))
    (finding,) = verify(root).findings
    assert "describe the array differently; ingest the run again" in str(finding)
    again(root)
    assert held(root) == own(root)
    assert verify(root).findings == []


def test_a_copy_onto_a_run_that_holds_more_arrays_keeps_them(
    root: Path, again: Callable[..., None], tmp_path: Path
) -> None:
    """The group of the target holds those of both stores."""
    target = Path(shutil.copytree(root, tmp_path / "target"))
    again(target, maps=["weights", KIND])
    copying.copy(root, target)
    assert KIND in held(target)
    assert held(target) == own(target)
    assert verify(target).findings == []
