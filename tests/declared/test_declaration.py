"""Rules of `attnstore.declared.config`: what the file may say, and how a mistake is told."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from attnstore import resources
from attnstore.declared.config import read
from attnstore.errors import UsageError
from attnstore.experiments.patterns import stored_classes

SOUND = """\
store = "storage"

[[models]]
name = "bert"
id = "bert-base-uncased"

[[models]]
name = "mrpc"
glob = "checkpoints/checkpoint-*"
base = "bert"

[[datasets]]
name = "d"
source = "sample"

[[ingest]]
max_length = 64

[[annotate]]
with = ["negation"]
"""


def written(path: Path, text: str) -> Path:
    (path / "attnstore.toml").write_text(text)
    return path / "attnstore.toml"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Wherever it is read from."""
    declared = read(written(tmp_path, SOUND))
    assert declared.backend.root == tmp_path / "storage"
    assert declared.path("checkpoints") == tmp_path / "checkpoints"
    assert declared.ingest[0].settings().max_length == 64
    assert declared.annotate[0].with_ == ("negation",)


def test_what_init_writes_is_sound_with_and_without_its_comments(tmp_path: Path) -> None:
    """Each commented example is one that is accepted."""
    text = resources.starting_file().read_text()
    assert read(written(tmp_path, text)).models[0].name == "bert"
    shutil.copy(stored_classes.file(), tmp_path)
    everything = read(written(tmp_path, re.sub(r"(?m)^# (?=\[|\w+ = )", "", text)))
    assert [m.name for m in everything.models] == ["bert", "mrpc"]
    assert everything.analyses
    assert everything.annotate
    assert everything.classify is not None
    assert everything.drift.alert_below_base == 0.5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('glob = "check', 'glb = "check', "models[1].glb: there is no such key; did you mean glob"),
        ('id = "bert', 'folder = "x"\nid = "bert', "models[0]: has id and folder; give exactly one"),
        ('id = "bert-base-uncased"\n', "", "models[0]: says not where the model is"),
        ('["negation"]', '["negatoin"]', "annotate[0].with[0]: Nothing annotates with 'negatoin'; give one of"),
        ("max_length = 64", "max_length = 1", "ingest[0]: The max-length is 1; give 2 to"),
        ("max_length = 64", 'max_length = "x"', "ingest[0].max_length: input should be a valid integer"),
        ("max_length = 64", 'precision = "float8"', "ingest[0]: The precision is 'float8'; give one of float32"),
        ("max_length = 64", 'models = ["brt"]', "ingest[0].models: there is no [[models]] with the name 'brt'; did you mean bert"),
        ("max_length = 64", "max_length = 64\n[[analyses]]\nname = 'head_tpes'", "analyses[0].name: 'head_tpes' is no file of sql/analysis; did you mean head_types"),
        ("max_length = 64", "max_length = 64\n[[analyses]]\nname = 'top_links'\nparams = {tp = 1}", "analyses[0]: has params.tp, which top_links does not take; did you mean top"),
        ('name = "mrpc"', 'name = "bert"', "models[1].name: 'bert' is the name of another one too"),
        ('name = "mrpc"', 'name = "m/x"', "models[1].name: 'm/x' cannot be a name"),
        ('base = "bert"', "step = 'x'", "models[1].step: 'x' has 0 groups"),
        ('name = "d"\n', "", "datasets[0].name: it is missing"),
        ('store = "storage"', "", "store: it is missing"),
        ("[[annotate]]", "[classify]\nrun = '*'\n[[annotate]]", "classify.run: there is no such key; did you mean runs"),
        ("[[annotate]]", "[classify]\nruns = 1\n[[annotate]]", "classify.runs: input should be a valid string, and it is 1"),
        ("[[annotate]]", "[[classify]]\n[[annotate]]", "classify: it is a table: write [classify]"),
        ("[[annotate]]", "[drift]\nmost = 0\n[[annotate]]", "drift.most: input should be greater than or equal to 1"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    """One sentence, with what to do."""
    assert old in SOUND
    with pytest.raises(UsageError) as caught:
        read(written(tmp_path, SOUND.replace(old, new, 1)))
    assert f"attnstore.toml, {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_toml_names_the_line(tmp_path: Path) -> None:
    """As the parser tells it."""
    with pytest.raises(UsageError, match=r"is no TOML: .*\(at line 2, column"):
        read(written(tmp_path, "store = 'x'\nmodels = = 2\n"))
    with pytest.raises(UsageError, match="attnstore init"):
        read(tmp_path / "nothing.toml")


def test_what_is_no_network_is_told_with_its_key(tmp_path: Path) -> None:
    """A file that is not there, and one of other weights."""
    file = written(tmp_path, SOUND + "[classify]\nnetwork = 'mine.safetensors'\n")
    with pytest.raises(UsageError, match=r"classify.network: .*/mine.safetensors cannot be read"):
        read(file)
    save_file({"weight": np.zeros(2, np.float32)}, tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match=r"classify.network: .* holds no network"):
        read(file)


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    """The first of the file is told."""
    text = SOUND.replace("glob", "glb").replace("source", "sorce")
    with pytest.raises(UsageError, match=r"models\[1\].glb.*\(2 more to fix\)"):
        read(written(tmp_path, text))
