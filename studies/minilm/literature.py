"""What each paper claims, held against the numbers of the study: agrees, agrees in part, contradicts, or cannot be said here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from studies.minilm.reading import Numbers, Row, interval, number, percent, title, where

AGREES, PARTLY, CONTRADICTS, OPEN = "agrees", "agrees in part", "contradicts", "not settled"


@dataclass(frozen=True)
class Finding:
    """What MiniLM shows of a claim.

    Attributes:
        ours: The number, in words.
        verdict: AGREES, PARTLY, CONTRADICTS or OPEN; with a word of why.
    """

    ours: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        paper: Authors, year and section.
        claim: What it says.
        published: Its number, with the model.
        find: What the numbers say of it; None where it was not measured.
    """

    paper: str
    claim: str
    published: str
    find: Callable[[Numbers], Finding | None]


def findings(numbers: Numbers) -> Iterator[tuple[Claim, Finding]]:
    """Yield each claim with what was found; one that was not measured says so."""
    for claim in CLAIMS:
        yield claim, claim.find(numbers) or Finding("not measured", OPEN)


def _neighbors(n: Numbers) -> Finding | None:
    row, rows = n.best("positional_heads-ewt"), n.rows("head_types-ewt")
    if not rows:
        return None
    kinds = [
        [f"{r['layer']}.{r['head']}" for r in rows if r["type"] == kind]
        for kind in ("previous", "next")
    ]
    early = all(int(place.split(".")[0]) < 3 for places in kinds for place in places)
    found = all(kinds)
    text = f"previous: {', '.join(kinds[0]) or 'none'}; next: {', '.join(kinds[1]) or 'none'}, of {len(rows)} heads"
    return Finding(text, AGREES if found and early else PARTLY if row else CONTRADICTS)


def _separator(n: Numbers) -> Finding | None:
    rows = n.rows("special_tokens-mrpc")
    if not rows:
        return None
    sep, cls = (max(r["mean"] for r in rows if r["kind"] == kind) for kind in ("sep", "cls"))
    return Finding(
        f"[SEP] at most {number(sep)} in a layer, [CLS] up to {number(cls)} (MRPC)",
        AGREES if sep > 0.5 else f"{CONTRADICTS}: the sink is [CLS]" if cls > sep else CONTRADICTS,
    )


def _no_op(n: Numbers) -> Finding | None:
    rows = [n.best(f"no_op_heads-{name}") for name in ("ewt", "mrpc")]
    sinks = [r["norm_ratio"] for r in n.rows("sinks-mrpc") if r["norm_ratio"] is not None]
    if not all(rows) or not sinks:
        return None
    text = f"the sink's value has {number(min(sinks[1:] or sinks))} to {number(max(sinks[1:] or sinks))} of the others' length in layers 1 to 5 (MRPC)"
    return Finding(text, f"{AGREES}, of [CLS]" if max(sinks[1:] or sinks) < 0.5 else PARTLY)


def _kobayashi(n: Numbers) -> Finding | None:
    rows = n.rows("norm_share-mrpc")
    if not rows:
        return None
    weight, norm = (_mean([r for r in rows if r["kind"] == "cls"], c) for c in ("weight", "norm"))
    lower = all(r["q"] < 0.05 for r in rows if r["kind"] == "cls" and r["q"] is not None)
    return Finding(
        f"[CLS] {number(weight)} by weight, {number(norm)} by norm (MRPC, mean over layers)",
        AGREES if lower and norm < weight / 2 else PARTLY if norm < weight else CONTRADICTS,
    )


def _mixing(n: Numbers) -> Finding | None:
    rows = [
        r
        for r in n.rows("mixing_ratio-mrpc")
        if r["measure"] == "attn_res_ln_n" and r["layer"] is not None
    ]
    if not rows:
        return None
    mean, most = _mean(rows, "mean"), max(r["mean"] for r in rows)
    return Finding(
        f"{number(mean, 3)}, at most {number(most, 3)} in a layer (MRPC)",
        AGREES if most < 0.5 else PARTLY,
    )


def _sinks(n: Numbers) -> Finding | None:
    rows = n.rows("sinks-mrpc")
    if not rows:
        return None
    shares = [r["mean"] for r in rows]
    twins = max((r.get("random_high") or 0) for r in rows)
    text = f"share of a layer's heads with a sink: {', '.join(number(s) for s in shares)}; random twins at most {number(twins)}"
    return Finding(
        text,
        AGREES
        if sum(s > 0.5 for s in shares) >= len(shares) / 2 and max(shares) > twins
        else PARTLY,
    )


def _relation(name: str) -> Callable[[Numbers], Finding | None]:
    def find(n: Numbers) -> Finding | None:
        row = n.row("dependency_table-ewt-from_to", relation=name)
        if not row:
            return None
        text = f"{row['layer']}.{row['head']}: {number(row['held_out'], 1)} / {number(row['baseline'], 1)}, the best head of random twins {number(row.get('random_high'), 1)}"
        gain = row["held_out"] - row["baseline"]
        above = row["q"] is not None and row["q"] < 0.05 and gain > 0
        return Finding(text, CONTRADICTS if not above else AGREES if gain > 10 else PARTLY)

    return find


def _hardly(name: str) -> Callable[[Numbers], Finding | None]:
    def find(n: Numbers) -> Finding | None:
        row = n.row("dependency_table-ewt-from_to", relation=name)
        if not row:
            return None
        gain = row["held_out"] - row["baseline"]
        return Finding(
            f"{row['layer']}.{row['head']}: {number(row['held_out'], 1)} / {number(row['baseline'], 1)}",
            AGREES if gain < 10 else CONTRADICTS,
        )

    return find


def _all(n: Numbers) -> Finding | None:
    row = n.row("dependency_table-ewt-from_to", relation="all")
    if not row:
        return None
    return Finding(
        f"{row['layer']}.{row['head']}: {number(row['held_out'], 1)} / {number(row['baseline'], 1)}",
        AGREES if row["held_out"] < 50 else CONTRADICTS,
    )


def _ensembles(n: Numbers) -> Finding | None:
    rows = [r for r in n.ensembles() if r["published"] is not None and r["gain"] is not None]
    if not rows:
        return None
    better = [r for r in rows if r["gain_q"] is not None and r["gain_q"] < 0.05 and r["gain"] > 0]
    gains = [100 * r["gain"] for r in rows]
    return Finding(
        f"{len(better)} of {len(rows)} relations, {number(min(gains), 1)} to {number(max(gains), 1)} points",
        AGREES if len(better) == len(rows) else PARTLY if better else CONTRADICTS,
    )


def _probe(n: Numbers) -> Finding | None:
    row = n.best("attention_probe-ewt-attention")
    if not row:
        return None
    twins = row.get("twins")
    above = twins is not None and row["low"] > max(0.5, twins)
    return Finding(
        f"{interval(row, 'value', 100, 1)}; {'no random twins' if twins is None else f'random twins {percent(twins)}'}",
        AGREES if above else PARTLY,
    )


def _alike(n: Numbers) -> Finding | None:
    row, layers = n.best("heads_alike-mrpc"), n.rows("layers_alike-mrpc")
    if not row or not layers:
        return None
    alone = next((r for r in layers if r["layer"] is None), None)
    text = f"{row['above']} of {row['of']} heads nearer to their own layer (q < 0.05)"
    if alone:
        text += f"; all layers: {interval(alone, 'difference')} bits"
    return Finding(text, AGREES if row["above"] > row["of"] / 2 else PARTLY)


def _trees(n: Numbers) -> Finding | None:
    row = next((h for h in (n.best("trees-ewt-None"),) if h), None)
    if not row:
        return None
    text = f"{row['place']}: {interval(row, 'value', 100, 1)}, chain {percent(row['baseline'])}; {row['above']} of {row['of']} maps above the chain; random twins {percent(row['twins'])}"
    return Finding(
        text,
        f"{CONTRADICTS} for few, agrees for most"
        if row["above"] and row["low"] > row["baseline"] + 0.05 and row["above"] < row["of"] / 4
        else CONTRADICTS
        if row["above"]
        else AGREES,
    )


def _coreference(n: Numbers) -> Finding | None:
    rows = [r for r in n.rows("coreference_heads-gap") if r["best"]]
    if not rows:
        return None
    row = rows[0]
    ends = {"value": row["held_out"], "low": row["held_out_low"], "high": row["held_out_high"]}
    above = row["held_out_low"] is not None and row["held_out_low"] > row["nearest"]
    return Finding(
        f"{row['layer']}.{row['head']}: {interval(ends, 'value', 100, 1)} held out, nearest name {percent(row['nearest'])} (of two names)",
        f"{AGREES}; another question than theirs" if above else OPEN,
    )


def _positional(n: Numbers) -> Finding | None:
    row = n.best("positional_heads-ewt")
    if not row:
        return None
    return Finding(
        f"{row['place']}: {interval(row, 'value', 100, 1)}; random twins {percent(row['twins'])} by their own distance",
        PARTLY + ": one head" if row["value"] > 0.9 else CONTRADICTS,
    )


def _rare(n: Numbers) -> Finding | None:
    row = n.best("rare_words-ewt")
    if not row:
        return None
    text = f"{row['place']}: {interval(row, 'value', 100, 1)}, even attention {percent(row['baseline'])}, random twins {percent(row['twins'])}"
    first = row["place"].startswith("0.")
    return Finding(
        text, f"{AGREES} in the layer, weaker" if first and row["value"] > 0.2 else PARTLY
    )


def _reach(n: Numbers) -> Finding | None:
    rows = where(n.content.get("measures", []), run="minilm/ewt")
    if not rows:
        return None
    reach, distance = ([row[name] for row in rows] for name in ("reach", "distance"))
    return Finding(
        f"tokens away, by layer: {', '.join(number(d, 1) for d in distance)} (EWT); beside even attention {', '.join(number(r) for r in reach)}",
        AGREES if reach == sorted(reach) else PARTLY if reach[-1] == max(reach) else CONTRADICTS,
    )


def _agreement(n: Numbers) -> Finding | None:
    rows = [
        r for r in n.rows("agreement-agreement-layer")
        if r["distractors"] is None and r["agreement"] is None
    ] or [r for r in n.rows("agreement-agreement-layer") if r["distractors"] is None]  # fmt: skip
    if not rows:
        return None
    lows, highs = min(r["difference"] for r in rows), max(r["difference"] for r in rows)
    above = sum(bool(r["above"]) for r in rows)
    return Finding(
        f"{number(lows)} to {number(highs)} bits better than even attention; above in {above} of {len(rows)} rows",
        AGREES if highs < 0.5 else PARTLY,
    )


def _rollout(n: Numbers) -> Finding | None:
    row = n.row("rollout-mrpc", layer=5, kind="cls")
    flow = n.row("flow-mrpc", layer=5, kind="cls") or n.row("flow-mrpc", kind="cls")
    if not row:
        return None
    return Finding(
        f"[CLS] has {number(row['mean'])} of rollout in layer 5, {number(flow.get('mean'))} of flow; faithfulness below",
        OPEN + ": see faithfulness",
    )


def _faithful(n: Numbers) -> Finding | None:
    rows = n.content["trained"].get("mrpc", {}).get("faithfulness", {}).get("weight", [])
    rows = [r for r in rows if r["kendall"] is not None]
    if not rows:
        return None
    best = max(rows, key=lambda r: r["kendall"])
    what = best["measure"] + (
        f" {best['layer']}.{best['head']}" if best.get("head") is not None else ""
    )
    row = {"value": best["kendall"], "low": best["kendall_low"], "high": best["kendall_high"]}
    return Finding(
        f"Kendall's tau with gradients of MRPC's classifier: at most {interval(row, 'value', 1, 2)} ({what})",
        AGREES if best["kendall"] < 0.5 else PARTLY,
    )


def _outliers(n: Numbers) -> Finding | None:
    rows = n.classifiers("outlier_dimensions")
    if not rows:
        return None
    many = [r for r in rows if r["norms"] >= 0.6 * r["of_norms"]]
    beyond = [r for r in rows if r["q"] < 0.05]
    return Finding(
        f"{len(many)} dimensions in 60 % of the norms or more ({', '.join(str(r['dimension']) for r in many)}); {len(beyond)} beyond chance",
        AGREES if many and len(many) < 10 else PARTLY,
    )


def _gradients(n: Numbers) -> Finding | None:
    rows = [
        r for r in n.classifiers("importance_agreement") if r["metric"] in ("accuracy", "pearson")
    ]
    if not rows:
        return None
    text = "; ".join(
        f"{title(r['dataset'])} {interval({'value': r['importance'], 'low': r['importance_low'], 'high': r['importance_high']}, 'value', 1, 2)}"
        for r in rows
    )
    good = [r for r in rows if r["importance_low"] is not None and r["importance_low"] > 0]
    return Finding(text, AGREES if len(good) == len(rows) else PARTLY if good else OPEN)


def _spare(n: Numbers) -> Finding | None:
    counts = []
    for task in n.content["classifiers"]["disabled"]:
        rows = n.without_head(task)
        hurt = [r for r in rows if r["q"] < 0.05 and r["difference"] < 0]
        counts.append((title(task), len(hurt), len(rows)))
    if not counts:
        return None
    text = "; ".join(f"{task}: {hurt} of {of} cost something (q < 0.05)" for task, hurt, of in counts)  # fmt: skip
    return Finding(text, AGREES if all(hurt < of / 2 for _, hurt, of in counts) else PARTLY)


def _mean(rows: list[Row], column: str) -> float:
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values) / len(values)


CLAIMS = (
    Claim("Clark et al. 2019, 3.1", "few heads look at the previous or next token, in early layers", "4 and 5 of 144", _neighbors),
    Claim("Clark et al. 2019, 3.2", "over half of the attention is on [SEP] in layers 5 to 9", "> 0.5", _separator),
    Claim("Clark et al. 2019, 3.2", "attention to the delimiter is a no-op", "gradients near 0", _no_op),
    Claim("Kobayashi et al. 2020", "by norm, delimiters matter little", "figures", _kobayashi),
    Claim("Kobayashi et al. 2021", "the residual outweighs what is mixed in", "0.188 after LayerNorm", _mixing),
    Claim("Xiao et al. 2023; Gu et al. 2025", "one token takes much of all attention in most heads", "figures of language models", _sinks),
    Claim("Clark et al. 2019, 4.2", "det has a head of its own, far above its offset", "94.3 / 51.7", _relation("det")),
    Claim("Clark et al. 2019, 4.2", "so has obj", "86.8 / 40.0", _relation("obj")),
    Claim("Limisiewicz et al. 2020", "amod is hardly above its offset", "80.8 / 76.3", _hardly("amod")),
    Claim("Clark et al. 2019, 4.2", "no head does well over all relations", "34.7 / 26.7", _all),
    Claim("Limisiewicz et al. 2020", "a few heads together do better than one", "+2 to +21 points", _ensembles),
    Claim("Clark et al. 2019, 5", "all heads together hold much of a tree", "61 UAS", _probe),
    Claim("Clark et al. 2019, 6", "heads of one layer are alike", "figure", _alike),
    Claim("Htut et al. 2019", "trees of single heads are little better than chains", "about 40 UUAS (third-party account)", _trees),
    Claim("Clark et al. 2019, 4.3", "one head follows coreference, above the nearest mention", "65 / 27", _coreference),
    Claim("Voita et al. 2019, 5.1", "heads whose most attended token is a neighbor in 90 % of rows", "several, in an encoder of translation", _positional),
    Claim("Voita et al. 2019, 5.3", "a head of the first layer looks at the rarest token", "66 %", _rare),
    Claim("Vig and Belinkov 2019", "attention reaches farther in later layers", "GPT-2, figures", _reach),
    Claim("Lin et al. 2019", "verbs look little more at their subjects than even attention would", "close to uniform", _agreement),
    Claim("Abnar and Zuidema 2020", "rollout and flow tell more of the tokens that matter than raw weights", "rank correlations .12 raw, .14 flow (third-party account)", _rollout),
    Claim("Jain and Wallace 2019", "attention correlates weakly with the importance of tokens", "tau usually low", _faithful),
    Claim("Michel et al. 2019", "most heads can go, one at a time, without a loss", "figures", _spare),
    Claim("Michel et al. 2019", "gradients tell which heads matter", "pruning by them", _gradients),
    Claim("Kovaleva et al. 2021", "few dimensions are outliers in nearly all layers", "2 of 768 (third-party account)", _outliers),
)  # fmt: skip
