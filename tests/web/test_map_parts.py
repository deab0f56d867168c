"""Maps between some of an input's tokens, as the explorer sends and draws them."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image
from webtools import RUN, Browser

from attnstore.display import input_parts
from attnstore.display.colors import EQUAL
from attnstore.store import Store
from attnstore.web import pictures


@pytest.fixture(scope="module")
def pair(store: Store) -> int:
    """An input of two texts, one of which has a word of several pieces."""
    rows = store.sql(
        "SELECT example FROM tokens JOIN inputs USING (run, example) JOIN examples USING (dataset, example) WHERE run = $run "
        "AND text_pair IS NOT NULL AND word IS NOT NULL GROUP BY example "
        "HAVING count(*) > count(DISTINCT (segment, word)) ORDER BY example LIMIT 1",
        run=RUN,
    )
    return int(rows.item())


@pytest.mark.parametrize("specials", input_parts.SPECIALS)
@pytest.mark.parametrize("sentences", input_parts.SENTENCES)
def test_thumbnails_hold_the_tokens_that_are_asked_for(
    pages: Browser, store: Store, pair: int, specials: str, sentences: str
) -> None:
    """Each byte is that of the weight, divided by what its row gives to words where rows sum to 1."""
    tokens = store.sql(
        "SELECT kind, segment FROM tokens WHERE run = $run AND example = $e ORDER BY position",
        run=RUN, e=pair,
    ).rows()  # fmt: skip
    plain = [kind in ("word", "punctuation") for kind, _ in tokens]
    sides = [
        [i for i, (_, segment) in enumerate(tokens)
         if (specials == "keep" or plain[i]) and (not letter or segment == {"a": 0, "b": 1}[letter])]
        for letter in (sentences[:1], sentences[1:])
    ]  # fmt: skip
    answer = pages.get(f"/maps/{RUN}/{pair}/all?specials={specials}&sentences={sentences}")
    assert [int(answer.headers[f"X-{name}"]) for name in ("Side", "Across")] == [*map(len, sides)]
    expected = []
    for weights in store.maps(RUN, pair).reshape(-1, len(tokens), len(tokens)):
        for i in sides[0]:
            given = math.fsum(w for w, word in zip(weights[i], plain, strict=True) if word)
            whole = given if specials == "renormalise" else 1
            expected += [255 * math.sqrt(min(1, weights[i, j] / whole)) for j in sides[1]]
    found = np.frombuffer(answer.content, np.uint8)
    np.testing.assert_allclose(found, expected, atol=0.501)


def test_rows_of_words_sum_to_1_without_special_tokens(store: Store, pair: int) -> None:
    """Word pieces are merged first, then special tokens are left out."""
    from attnstore.display import inputs

    data = inputs.find(store, RUN, pair)["data"]
    maps = inputs.merged(store.maps(RUN, pair), data["starts"])
    part = input_parts.part(maps, data, True, "renormalise")
    assert part.shape[-1] == sum(not data["special"][i] for i in data["starts"])
    np.testing.assert_allclose(part.sum(-1), 1, atol=1e-5)


def test_a_row_that_gives_words_nothing_stays_0() -> None:
    """Nothing is divided by 0."""
    data = {"special": [True, False], "segments": [0, 0], "starts": [0, 1]}
    maps = np.array([[1, 0], [1, 0]], np.float32)
    assert input_parts.part(maps, data, False, "renormalise").tolist() == [[0]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("specials=renormalize", "give one of keep, drop, renormalise."),
        ("sentences=ac", "give one of ab, ba, aa, bb."),
    ],
)
def test_another_choice_is_a_sentence(pages: Browser, pair: int, query: str, said: str) -> None:
    """It lists those that there are."""
    answer = pages.get(f"/maps/{RUN}/{pair}/all?{query}")
    assert answer.status_code == 400
    assert said in answer.text


def test_no_token_left_is_a_sentence(pages: Browser, store: Store) -> None:
    """A single text has no second one."""
    single = store.sql(
        "SELECT min(example) FROM inputs JOIN examples USING (dataset, example) WHERE run = $run "
        "AND text_pair IS NULL", run=RUN,
    ).item()  # fmt: skip
    answer = pages.get(f"/maps/{RUN}/{single}/all?sentences=ab")
    assert answer.status_code == 400
    assert "No token is left" in answer.text


def test_a_picture_of_equal_weights_is_gray_on_its_own_range() -> None:
    """On the common range they have the color of their value."""
    even = np.full((4, 4), 0.25, np.float32)
    gray = tuple(bytes.fromhex(EQUAL[1:]))
    for own, equal in ((True, True), (False, False)):
        image = Image.open(io.BytesIO(pictures.picture(even, 0.25 if own else 1, equal_gray=own)))
        assert (image.getpixel((1, 2)) == gray) is equal
