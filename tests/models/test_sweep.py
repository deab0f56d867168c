"""Rules of the sweep: an architecture is stored as its model gives it, or refused in a true sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import sweep
from architectures import ARCHITECTURES, REFUSED, Architecture

LABELS = [architecture.label for architecture in ARCHITECTURES]
PEAKED = 0.15
"""Distance of the rows from uniform, on average, that shows a model whose maps differ at all."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=LABELS)
def test_an_architecture_is_stored_exactly_or_refused(
    architecture: Architecture, tmp_path: Path
) -> None:
    """Each stored map is the one of the model loaded afresh for that input, or nothing is stored and a listed sentence says why."""
    trial = sweep.try_one(architecture, tmp_path)
    refusal = REFUSED.get(architecture.label)
    for name, outcome in trial.outcomes.items():
        if refusal and name in refusal.of:
            assert outcome.result == "refused", (name, outcome.detail)
            assert refusal.phrase in outcome.detail
        else:
            assert outcome.result == "equal", (name, outcome.detail, outcome.difference)
            assert outcome.peak > PEAKED
    committed = sweep.page_rows(sweep.PAGE.read_text(encoding="utf-8"))[architecture.label]
    assert trial.row()[:-1] == committed[:-1], (
        "run `python tests/support/sweep.py`, which writes the page"
    )


def test_the_page_lists_what_the_sweep_tries() -> None:
    """docs/models.md has a row for each architecture of the list, in its order, and each refusal with its reason."""
    text = sweep.PAGE.read_text(encoding="utf-8")
    rows = sweep.page_rows(text)
    assert list(rows) == LABELS
    assert {label for label, row in rows.items() if row[5] != "equal"} == set(REFUSED)
    for label, refusal in REFUSED.items():
        assert f"| {label} | {refusal.reason} | … {refusal.phrase} … |" in text


def test_the_list_is_long_and_names_each_row_once() -> None:
    """At least 70 architectures are tried, and no two rows have one name."""
    assert len(set(LABELS)) == len(LABELS)
    assert len({architecture.name for architecture in ARCHITECTURES}) >= 70
    assert set(REFUSED) <= set(LABELS)


def test_a_wrong_map_would_be_seen() -> None:
    """The comparison finds one changed weight, another shape and NaN."""
    first, second = (sweep.np.full((1, 1, 2, 2), 0.5, "f4") for _ in range(2))
    assert sweep.compare([first], [second]) == (0.0, "")
    second[0, 0, 1, 0] += 1e-3
    assert sweep.compare([first], [second])[0] > sweep.TOLERANCE
    second[0, 0, 1, 0] = float("nan")
    assert not sweep.compare([first], [second])[0] <= sweep.TOLERANCE
    assert sweep.compare([first], [first[:, :, :1, :1]])[0] == 1.0
