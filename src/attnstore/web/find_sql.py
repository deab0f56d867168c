"""The SQL of a question of the field Find, for one run: over its inputs, or over weights of some of its heads.

Weights come from the functions over maps, summed as in the view `link_attention`: over the tokens of the second
end, the mean over those of the first. A head in which nothing is above the threshold has one row, without a weight:
its pairs count where the parts of a question are added up.
"""

from __future__ import annotations

import json

from attnstore.web.find_names import FEATURE, LABEL, LINK, WORD
from attnstore.web.find_question import Question, Term

_WHITE = r"[\s\p{Z}\p{Cc}]"
_PIECES = (
    rf"regexp_extract_all(%s, '{_WHITE}*(?:(?:[^\P{{L}}\p{{Han}}\p{{Hiragana}}\p{{Katakana}}\p{{Thai}}]|[\p{{M}}\p{{N}}])+"
    r"|[^\s\p{Z}\p{Cc}])')"
)
"""Words of a text, each with the white space before it: letters and digits together, any other character alone, and
each letter of a script without white space between words."""
_BARE = rf"list_transform(%s, lambda piece: regexp_replace(piece, '^{_WHITE}+', ''))"
_LOWER = "list_transform(%s, lambda piece: lower(piece))"
_WANTED = f"SELECT {_LOWER % _BARE % _PIECES} AS wanted"
_UNPLACED = """SELECT example, segment, position, text, sum(len(piece)) OVER place AS stop, piece
    FROM (SELECT *, if(word = lag(word) OVER (PARTITION BY example, segment ORDER BY position), text, ' ' || text) AS piece
          FROM tokens SEMI JOIN (
              SELECT example, segment FROM tokens SEMI JOIN chosen USING (example)
              WHERE run = $run AND word IS NOT NULL AND "start" IS NULL
          ) USING (example, segment) WHERE run = $run AND word IS NOT NULL)
    WINDOW place AS (PARTITION BY example, segment ORDER BY position)"""
"""Tokens of a tokenizer without offsets, with their places in the text that they spell."""
_LETTERS = """SELECT example, segment, position, "start" AS begin, "end" AS stop
    FROM tokens SEMI JOIN chosen USING (example) ANTI JOIN unplaced USING (example, segment) WHERE run = $run AND "start" IS NOT NULL
    UNION ALL SELECT example, segment, position, stop - len(text), stop FROM unplaced"""
_WORDS = f"""SELECT example, segment, pieces, bare, {_LOWER % "bare"} AS spelled FROM (
        SELECT *, {_BARE % "pieces"} AS bare FROM (
            SELECT example, segment, {_PIECES % "written"} AS pieces FROM (
                SELECT example, unnest([0, 1])::TINYINT AS segment, unnest([text, text_pair]) AS written
                FROM examples SEMI JOIN chosen USING (dataset, example)
            ) ANTI JOIN unplaced USING (example, segment)
            UNION ALL SELECT example, segment, {_PIECES % "string_agg(piece, '' ORDER BY position)"} FROM unplaced GROUP BY example, segment))"""
_TOKENS = """SELECT example, list(position ORDER BY position) AS positions FROM (
        SELECT example, segment, len(array_to_string(pieces[:i], '')) - len(bare[i]) AS first,
               len(array_to_string(pieces[:i + len(wanted) - 1], '')) AS last, last - len(bare[i + len(wanted) - 1]) AS last_word
        FROM (SELECT *, unnest(list_filter(range(1, len(spelled) - len(wanted) + 2), lambda i: spelled[i:i + len(wanted) - 1] = wanted)) AS i
              FROM words, {0}_wanted WHERE list_has_all(spelled, wanted))
    ) JOIN letters USING (example, segment) WHERE begin < last AND greatest(stop, begin + 1) > first
    GROUP BY example, segment, first, last HAVING max(stop) > any_value(last_word)"""
"""Tokens of which a letter is in the words of a term, with a token for the white space before them; not beyond
where an input is cut off."""
_NAMED = """SELECT DISTINCT example, list_sort(positions) AS positions FROM (
        SELECT example, positions FROM spans JOIN runs USING (dataset) JOIN span_tokens USING (run, source, example, span)
        WHERE run = $run AND (label = ${0} OR kind = ${0})
        UNION ALL
        SELECT example, list(DISTINCT position) FROM token_features JOIN tokens USING (run, example, position)
        WHERE run = $run AND feature = ${0} AND NOT EXISTS (FROM spans JOIN runs USING (dataset) WHERE run = $run AND kind = ${0})
        GROUP BY example, coalesce(word, -1 - position)
    )"""
_ENDS = "FROM link_tokens WHERE run = $run AND (label = ${0} OR kind = ${0})"
_WEIGHTS = """places AS MATERIALIZED (
    SELECT example, flatten(list(from_each ORDER BY pair)) AS from_each, flatten(list(to_each ORDER BY pair)) AS to_each,
           list({'pair': pair, 'start': cells - len(from_each), 'n': len(from_each), 'rows': len(from_positions)} ORDER BY pair) AS pairs
    FROM (SELECT *, sum(len(from_each)) OVER (PARTITION BY example ORDER BY pair)::INTEGER AS cells FROM (
        SELECT *, list_transform(range(len(from_positions) * len(to_positions)), lambda k: from_positions[k // len(to_positions) + 1]) AS from_each,
               list_transform(range(len(from_positions) * len(to_positions)), lambda k: to_positions[k % len(to_positions) + 1]) AS to_each
        FROM pairs))
    GROUP BY example
), weighed AS (
    SELECT example, layer, head, place.pair AS pair, list_sum(weights[place.start + 1:place.start + place.n]) / place.rows AS weight
    FROM (SELECT example, layer, head, weights, unnest(pairs) AS place FROM (
        SELECT m.example, m.layer, m.head, p.pairs, attention_at(run_key, layer, head, cell, length, from_each, to_each) AS weights
        FROM map_places m JOIN places p USING (example)
        WHERE m.run = $run AND list_contains($layers, m.layer) AND m.head BETWEEN $low AND $high))
)"""
_RECEIVED = """weighed AS (
    SELECT example, layer, head, pair, list_sum(list_transform(to_positions, lambda p: received[p + 1])) AS weight
    FROM pairs JOIN (
        SELECT m.example, m.layer, m.head, attention_received(run_key, layer, head, token_cell, length) AS received
        FROM map_places m SEMI JOIN pairs USING (example)
        WHERE m.run = $run AND list_contains($layers, m.layer) AND m.head BETWEEN $low AND $high
    ) USING (example)
)"""
_MAPS = """over AS (
    SELECT *, count(*) OVER (PARTITION BY layer, head) AS of_head FROM weighed WHERE weight > $over
    QUALIFY row_number() OVER (PARTITION BY layer, head ORDER BY weight DESC, example, pair) <= $most
), spelled AS (
    SELECT example, pair, ends, coalesce(substr(if(any_value(segment) = 0, any_value(e.text), any_value(e.text_pair)), min("start") + 1, (max("end") - min("start"))::BIGINT),
           string_agg(t.text, ' ' ORDER BY position)) AS spelled
    FROM (SELECT example, pair, 'from' AS ends, unnest(from_positions) AS position FROM pairs SEMI JOIN over USING (example, pair)
          UNION ALL SELECT example, pair, 'to', unnest(to_positions) FROM pairs SEMI JOIN over USING (example, pair))
    JOIN tokens t USING (example, position) JOIN runs r USING (run) JOIN examples e USING (dataset, example)
    WHERE run = $run GROUP BY example, pair, ends
), answers AS (
    SELECT o.*, i.length, array_to_string(p.from_positions, ' ') AS from_positions, array_to_string(p.to_positions, ' ') AS to_positions,
           f.spelled AS from_text, t.spelled AS to_text
    FROM over o JOIN pairs p USING (example, pair) JOIN inputs i ON i.run = $run AND i.example = o.example
    LEFT JOIN spelled f ON f.example = o.example AND f.pair = o.pair AND f.ends = 'from'
    LEFT JOIN spelled t ON t.example = o.example AND t.pair = o.pair AND t.ends = 'to'
), heads AS (
    SELECT layer::SMALLINT AS layer, unnest(range($low, $high + 1))::SMALLINT AS head FROM (SELECT unnest($layers) AS layer)
)
SELECT layer, head, coalesce(of_head, 0) AS of_head, (SELECT count(*) FROM pairs) AS pairs, weight, example, length,
       from_positions, to_positions, from_text, to_text
FROM heads LEFT JOIN answers USING (layer, head)
ORDER BY of_head DESC, layer, head, weight DESC, example, pair"""
_INPUTS = """answers AS MATERIALIZED (
    SELECT dataset, example, length, count(*) OVER () AS n FROM inputs SEMI JOIN chosen_with USING (example) WHERE run = $run
    ORDER BY example LIMIT $most OFFSET $skip
), marks AS MATERIALIZED (
    SELECT DISTINCT example, t.position, t.segment, t."start", t."end"
    FROM (SELECT example, unnest(positions) AS position FROM marked SEMI JOIN answers USING (example)) JOIN tokens t USING (example, position)
    WHERE t.run = $run
), firsts AS (
    SELECT example, min(position) AS position, coalesce(min(segment), 0) AS segment,
           coalesce(greatest(arg_min("start", position) - 90, 0), 0) AS begin
    FROM answers LEFT JOIN (FROM marks WHERE "start" IS NOT NULL) USING (example) GROUP BY example
)
SELECT a.example, a.n, a.length, e.label, f.position, f.begin > 0 AS cut,
       substr(if(f.segment = 0, e.text, e.text_pair), f.begin + 1, 300) AS excerpt,
       len(if(f.segment = 0, e.text, e.text_pair)) > f.begin + 300 AS more,
       (SELECT string_agg(m."start" - f.begin || '-' || (m."end" - f.begin), ' ' ORDER BY m."start") FROM marks m
        WHERE m.example = a.example AND m.segment = f.segment AND m."start" BETWEEN f.begin AND f.begin + 299) AS marks,
       (SELECT string_agg(o.run, ' ' ORDER BY o.run) FROM inputs o JOIN runs r USING (run) JOIN models d USING (model)
        WHERE o.dataset = a.dataset AND o.example = a.example AND (d.twin_of IS NULL OR o.run = $run)) AS runs
FROM answers a JOIN firsts f USING (example) JOIN examples e USING (dataset, example)
ORDER BY a.example"""


def of(question: Question, link: str | None) -> tuple[str, dict[str, str]]:
    """Return the SQL of a question whose names are resolved, and values of its parameters as texts.

    The values of `run`, `first`, `last` (blocks), `labels`, `shortest`, `longest`, and of `layers`, `low`, `high`
    (heads), `most`, `skip` are the caller's.

    Args:
        question: The question.
        link: Name of the links that join its two terms; None if any two of an input are a pair.
    """
    names = {f"term{i}": term for i, term in enumerate(question.terms)}
    of_term = {term: name for name, term in reversed(names.items())}
    params = {name: json.dumps(term.text) for name, term in names.items() if term.kind != "any"}
    words = [name for name, term in names.items() if term.kind == WORD]
    parts = [f"{name}_wanted AS ({_WANTED % f'${name}'})" for name in words]
    parts.append(_chosen(words))
    if words:
        parts += [
            f"{name} AS MATERIALIZED (\n    {sql}\n)"
            for name, sql in (("unplaced", _UNPLACED), ("letters", _LETTERS), ("words", _WORDS))
        ]
    parts += [f"{name} AS MATERIALIZED (\n    {_units(name, term)}\n)" for name, term in names.items()]  # fmt: skip
    semi = "".join(f" SEMI JOIN {of_term[term]} USING (example)" for term in question.having)
    parts.append(f"chosen_with AS MATERIALIZED (SELECT example FROM chosen{semi})")
    if question.over is None:
        marked = " UNION ALL ".join(f"FROM {name}" for name in names)
        empty = "SELECT NULL::BIGINT AS example, []::INTEGER[] AS positions WHERE false"
        return _with([*parts, f"marked AS ({marked or empty})", _INPUTS]), params
    params["over"] = json.dumps(question.over)
    found = _pairs(question, link, of_term, params)
    number = "(row_number() OVER (PARTITION BY example ORDER BY from_positions, to_positions))::INTEGER AS pair"
    parts.append(
        f"pairs AS MATERIALIZED (\n    SELECT *, {number}\n    FROM ({found}) SEMI JOIN chosen_with USING (example)\n)"
    )
    alone = question.sent is None and link is None
    return _with([*parts, _RECEIVED if alone else _WEIGHTS, _MAPS]), params


def _with(parts: list[str]) -> str:
    return "WITH " + ", ".join(parts)


def _chosen(words: list[str]) -> str:
    """Return the table of inputs that the filters leave, and that have the letters of each word."""
    have = [
        f" AND (SELECT list_bool_and(list_transform(wanted, lambda word: contains(written, word))) FROM {name}_wanted)"
        for name in words
    ]
    return (
        "chosen AS MATERIALIZED (\n    SELECT dataset, example FROM (\n"
        "        SELECT *, lower(concat_ws(' ', text, text_pair)) AS written FROM inputs JOIN examples USING (dataset, example)\n"
        "        WHERE run = $run AND block BETWEEN $first AND $last AND length BETWEEN $shortest AND $longest\n"
        f"        AND ($labels IS NULL OR list_contains($labels, label))) WHERE true{''.join(have)}\n)"
    )


def _units(name: str, term: Term) -> str:
    """Return the SELECT of the places that a term stands for: example, positions."""
    if term.kind == "any":
        return "SELECT example, [position] AS positions FROM tokens SEMI JOIN chosen USING (example) WHERE run = $run"
    if term.kind == "token":
        return f"SELECT example, [position] AS positions FROM tokens SEMI JOIN chosen USING (example) WHERE run = $run AND token = ${name}"
    if term.kind in (FEATURE, LABEL):
        return _NAMED.format(name)
    if term.kind == LINK:
        return f"SELECT example, from_positions AS positions {_ENDS.format(name)}\n    UNION ALL SELECT example, to_positions {_ENDS.format(name)}"
    return _TOKENS.format(name)


def _pairs(
    question: Question, link: str | None, of_term: dict[Term, str], params: dict[str, str]
) -> str:
    """Return the SELECT of the pairs that are weighed: example, from_positions, to_positions."""
    assert question.received is not None
    received = of_term[question.received]
    if link is None and question.sent is None:
        return f"SELECT DISTINCT example, []::INTEGER[] AS from_positions, positions AS to_positions FROM {received}"
    if link is None:
        assert question.sent is not None
        return (
            "SELECT DISTINCT example, s.positions AS from_positions, r.positions AS to_positions "
            f"FROM {of_term[question.sent]} s JOIN {received} r USING (example) WHERE NOT list_has_any(s.positions, r.positions)"
        )
    params["link"] = json.dumps(link)
    forward = f"SELECT example, from_positions AS first_end, to_positions AS second_end {_ENDS.format('link')}"
    back = f"SELECT example, to_positions AS first_end, from_positions AS second_end {_ENDS.format('link')}"
    if question.sent is None:
        ends = back if question.filters.get("direction") == "back" else forward
        return f"SELECT DISTINCT example, first_end AS from_positions, second_end AS to_positions FROM ({ends})"
    return (
        f"SELECT DISTINCT example, first_end AS from_positions, second_end AS to_positions FROM ({forward} UNION ALL {back}) l "
        f"JOIN {of_term[question.sent]} s USING (example) JOIN {received} r USING (example) "
        "WHERE list_has_any(s.positions, first_end) AND list_has_any(r.positions, second_end)"
    )
