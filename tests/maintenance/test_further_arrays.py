"""Rules of arrays beside maps and received: what is added is read, checked, copied and collected."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
from helpers import contents, flip
from older import make_older

import attnstore
from attnstore import job
from attnstore.capture import additions, catalog
from attnstore.capture.additions import Addition, Source
from attnstore.capture.runs import Run
from attnstore.errors import AttnstoreError, DamageError, StoreError
from attnstore.maintenance import copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.models import checkpoints
from attnstore.storage import array_blocks, arrays, fragments, layout, location
from attnstore.storage.arrays import Further

RUN = "tiny/texts"
KINDS = ("value_zeroing", "gradient_attention_20")
"""One map a layer, and one a head."""


class Drawn:
    """A computer of maps that are drawn anew for each block, the same ones whenever it is asked."""

    def __init__(self, run: Run, without: str = "", _: object = None) -> None:
        self._run, self._without = run, without

    def compute(self, rows: pl.DataFrame) -> Further:
        draw = np.random.default_rng(int(rows["cell"][0]))
        n_layers, n_heads = len(self._run.record.layers), len(self._run.record.heads)
        found: dict[str, Any] = {}
        for name, middle in zip(KINDS, (1, n_heads), strict=True):
            data = draw.standard_normal((n_layers, middle, layout.SHARD_CELLS), np.float32)
            found[name] = None if name == self._without else data
        return found


def addition(root: Path, without: str = "") -> Addition:
    run = catalog.named(location.find(root), RUN)
    return Addition(run, KINDS, Source(Drawn, (without,)))


def opened(root: Path) -> tuple[Run, arrays.RunArrays]:
    run = catalog.named(location.find(root), RUN)
    return run, arrays.open_run(run.backend, RUN, run.shape)


def expected(run: Run, name: str) -> np.ndarray[Any, Any]:
    """The array (layer, middle, cell) over all blocks."""
    blocks = [Drawn(run).compute(run.plan[rows])[name] for rows in run.blocks]
    return np.concatenate([block for block in blocks if block is not None], axis=2)


def shard(root: Path, name: str, number: int = 1) -> Path:
    return root / arrays.shard_path(RUN, name, number)


def held(root: Path) -> list[str]:
    with attnstore.open(root) as store:
        names: list[str] = store.sql("SELECT arrays FROM runs").item().to_list()
    return names


@pytest.fixture
def added(root: Path) -> Path:
    """A store whose run holds both kinds."""
    job.run(addition(root))
    return root


def test_what_was_added_is_read_from_any_block(added: Path) -> None:
    """Slices of any row, and stretches over all, are what was computed; one map a layer has one row."""
    run, stored = opened(added)
    draw = np.random.default_rng(0)
    for name in KINDS:
        whole = expected(run, name)
        n_layers, middle, cells = whole.shape
        assert middle == (1 if name == "value_zeroing" else len(run.record.heads))
        row = draw.integers(0, n_layers * middle, 20)
        start = draw.integers(0, cells - 50, 20)
        count = draw.integers(1, 50, 20)
        found = stored.gather(name, row, start, count)
        flat = whole.reshape(-1, cells)
        parts = [flat[r, s : s + n] for r, s, n in zip(row, start, count, strict=True)]
        assert np.array_equal(found, np.concatenate(parts))
        assert np.array_equal(stored.stretch(name, 3, 99), flat[:, 3:99])


def test_xarray_opens_it_with_names(added: Path) -> None:
    """Dimensions are named, heads have their numbers, and what is not stored is NaN."""
    data = xr.open_zarr(added / "attention.zarr" / RUN, consolidated=False)
    run, _ = opened(added)
    assert data["value_zeroing"].dims == ("layer", "map", "cell")
    assert data["gradient_attention_20"].dims == ("layer", "head", "cell")
    values = data["gradient_attention_20"].sel(layer=1, head=2).values
    assert np.array_equal(values, expected(run, "gradient_attention_20")[1, 2])
    shard(added, "value_zeroing", 1).unlink()
    data = xr.open_zarr(added / "attention.zarr" / RUN, consolidated=False)
    cells = slice(layout.SHARD_CELLS, 2 * layout.SHARD_CELLS)
    assert np.isnan(data["value_zeroing"].isel(cell=cells).values).all()


def test_maps_and_identity_stay(root: Path) -> None:
    """No file of the run changes but the list of its arrays; the run counts them, and verify finds nothing."""
    before, held_before = contents(root, "attention.zarr", "fragments"), held(root)
    del before[f"attention.zarr/{RUN}/zarr.json"]
    summary = job.run(addition(root))
    after = contents(root, "attention.zarr", "fragments")
    assert before.items() <= after.items()
    assert held(root) == sorted({*held_before, *KINDS})
    assert summary.bytes == sum(
        shard(root, name, n).stat().st_size for name in KINDS for n in range(summary_blocks(root))
    )
    assert verify(root).findings == []
    assert job.run(addition(root)).stored == 0


def summary_blocks(root: Path) -> int:
    return len(fragments.listing(location.find(root), "blocks", RUN))


def test_an_array_that_cannot_be_had_is_known_as_such(root: Path) -> None:
    """It is not asked for again, takes no file, and the summary names it."""
    summary = job.run(addition(root, without="value_zeroing"))
    assert summary.without == ("value_zeroing",)
    assert "value_zeroing cannot be had of this model" in summary.lines()[0]
    assert not (root / "attention.zarr" / RUN / "value_zeroing").exists()
    assert "value_zeroing" not in held(root)
    assert verify(root).findings == []
    assert job.run(addition(root)).stored == 0


def test_a_damaged_shard_is_named_and_only_its_block_computed(added: Path) -> None:
    """The finding has the block and the command; the job that adds arrays rewrites that block."""
    before = contents(added, "attention.zarr")
    flip(shard(added, "value_zeroing"))
    (finding,) = verify(added).findings
    assert (finding.run, finding.block) == (RUN, 1)
    assert "--maps weights,value_zeroing" in finding.what
    work = addition(added)
    with work:
        assert [unit.number for unit in work.missing()] == [1]
        work.complete(job.in_process, job.silent)
    assert contents(added, "attention.zarr") == before
    assert verify(added).findings == []


def test_a_damaged_description_is_refused_and_mended(added: Path) -> None:
    """Reading says so, verify finds it, and a job that has nothing to compute leaves it whole again."""
    path = added / "attention.zarr" / RUN / "value_zeroing" / "zarr.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"regular"', b'"regulas"'))
    _, stored = opened(added)
    with pytest.raises((DamageError, StoreError)):
        stored.stretch("value_zeroing", 0, 10)
    assert [f.run for f in verify(added).findings] == [RUN]


def test_a_full_disk_costs_one_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, every block before it kept, and the next call continues."""
    write, left = fragments.write, 3

    def full(*arguments: Any) -> str:
        nonlocal left
        if not left:
            raise StoreError("No space left on device.")
        left -= 1
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fragments, "write", full)
        with pytest.raises(StoreError):
            job.run(addition(root))
    assert verify(root).findings == []
    work = addition(root)
    with work:
        assert [unit.number for unit in work.missing()] == list(range(1, summary_blocks(root)))
        work.complete(job.in_process, job.silent)
    run, stored = opened(root)
    whole = expected(run, "value_zeroing")
    assert np.array_equal(
        stored.stretch("value_zeroing", 0, whole.shape[2]), whole.reshape(-1, whole.shape[2])
    )


def test_gc_takes_shards_that_no_fragment_names(added: Path) -> None:
    """Of a block whose fragment is gone, and no other; the rest reads as before."""
    (gone,) = [
        f
        for f in fragments.listing(location.find(added), array_blocks.TABLE, RUN)
        if f.part == "value_zeroing-000001"
    ]
    (added / gone.path).unlink()
    found = orphans.collect(added)
    assert [f.path for f in found.files] == [arrays.shard_path(RUN, "value_zeroing", 1)]
    assert verify(added).findings == []
    assert orphans.collect(added).files == []


def test_dropping_a_run_takes_everything(added: Path) -> None:
    with attnstore.open(added) as store:
        store.drop(RUN)
    assert not [p for p in contents(added, "attention.zarr", "fragments") if RUN in p]


def test_a_copy_brings_arrays_to_a_run_that_the_target_has(added: Path, tmp_path: Path) -> None:
    """The target's own maps stay, and the arrays come with their blocks and descriptions."""
    target = Path(shutil.copytree(added, tmp_path / "target"))
    make_older(target)
    before = contents(target, "attention.zarr")
    del before[f"attention.zarr/{RUN}/zarr.json"]  # it lists the arrays
    done = copying.copy(added, target)
    assert done.written_files > 0
    assert contents(target, "attention.zarr") == contents(added, "attention.zarr")
    assert before.items() <= contents(target, "attention.zarr").items()
    assert held(target) == held(added)
    assert verify(target).findings == []


def test_a_damaged_array_is_not_copied(added: Path, tmp_path: Path) -> None:
    flip(shard(added, "value_zeroing"))
    with pytest.raises(DamageError):
        copying.copy(added, tmp_path / "copy")


# Runs of an earlier capture ----------------------------------------------------------------------


def rows(root: Path) -> pl.DataFrame:
    with attnstore.open(root) as store:
        return store.sql("SELECT * FROM maps ORDER BY example, layer, head")


def ingest(root: Path, model: Path, texts: Path, **options: Any) -> Any:
    return attnstore.ingest(root, str(model), str(texts), max_length=48, **options)[0]


def test_an_older_run_answers_as_before(root: Path, tiny_bert: Path, texts: Path) -> None:
    """Its maps are the same, it is whole, and asking for it again computes nothing."""
    before = rows(root)
    make_older(root)
    assert rows(root).equals(before)
    report = verify(root)
    assert report.findings == []
    assert ingest(root, tiny_bert, texts).stored == 0
    assert held(root) == []
    assert not list((root / "fragments").glob("array_blocks/*"))


def test_an_update_gives_what_a_new_ingestion_gives(
    root: Path, tiny_bert: Path, texts: Path, tmp_path: Path
) -> None:
    """Byte by byte, also of a run of some layers and heads; its blocks keep their checksums."""
    options: dict[str, Any] = {"layers": (1,), "heads": (0, 2)}
    for name, chosen in (("whole", {}), ("part", options)):
        new, old = tmp_path / f"{name}-new", tmp_path / f"{name}-old"
        ingest(new, tiny_bert, texts, update=True, **chosen)
        shutil.copytree(new, old)
        make_older(old)
        ingest(old, tiny_bert, texts, update=True, **chosen)
        assert contents(old, "attention.zarr") == contents(new, "attention.zarr")
        assert held(old) == ["mixing", "value_norm"]
        assert verify(old).findings == []


def test_ingesting_again_mends_a_damaged_value_norm(
    root: Path, tiny_bert: Path, texts: Path
) -> None:
    """The block is computed again as a whole; a run that lacks the array is not touched."""
    make_older(root)
    ingest(root, tiny_bert, texts, update=True)
    before = contents(root, "attention.zarr")
    flip(shard(root, "value_norm"))
    (finding,) = verify(root).findings
    assert (finding.run, finding.block) == (RUN, 1)
    assert "ingest the run again" in finding.what
    assert ingest(root, tiny_bert, texts).stored > 0
    assert contents(root, "attention.zarr") == before
    assert verify(root).findings == []


def test_another_model_is_another_run(root: Path, tiny_bert: Path, texts: Path) -> None:
    """An update asks for the run by its content: nothing of another model goes into it."""
    make_older(root)
    other = Path(shutil.copytree(tiny_bert, root.parent / "other" / tiny_bert.name))
    from safetensors.numpy import load_file, save_file

    weights = load_file(other / "model.safetensors")
    first = next(iter(weights))
    weights[first] = weights[first] + np.float32(0.01)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    ingest(root, other, texts, update=True)
    with attnstore.open(root) as store:
        found = dict(store.sql("SELECT run, arrays FROM runs").iter_rows())
    assert found[RUN] == []
    assert len(found) == 2


def test_an_update_of_a_dropped_run_is_refused(root: Path, tiny_bert: Path) -> None:
    make_older(root)
    run = catalog.named(location.find(root), RUN)
    with attnstore.open(root) as store:
        store.drop(RUN)
    with pytest.raises(AttnstoreError, match="has just been dropped"):
        job.run(additions.captured(run, checkpoints.resolve(str(tiny_bert)), "cpu"))


def test_a_row_that_names_other_shards_is_found(added: Path) -> None:
    """Arrays of a block stand at the shards of its maps: the check names the block."""
    backend = location.find(added)
    part = "value_zeroing-000001"
    (f,) = [f for f in fragments.listing(backend, array_blocks.TABLE, RUN) if f.part == part]
    other = fragments.read(backend, f)
    (first,) = [g for g in fragments.listing(backend, array_blocks.TABLE, RUN)
                if g.part == "value_zeroing-000000"]  # fmt: skip
    sealed = fragments.read(backend, first).select("first_shard", "crc32c", "bytes")
    wrong = other.with_columns(sealed)  # shards that are there, of another block
    fragments.write(backend, array_blocks.TABLE, RUN, part, wrong)
    (finding,) = verify(added).findings
    assert (finding.run, finding.block) == (RUN, 1)
    assert "array_blocks_once" in finding.what
