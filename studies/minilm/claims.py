"""The claims of Kovaleva et al. 2019 and their open questions: query, number with its interval, verdict on this model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from scipy.stats import t

from studies.minilm.literature import AGREES, CONTRADICTS, OPEN, PARTLY
from studies.minilm.reading import (
    Numbers,
    Row,
    interval,
    number,
    p_value,
    percent,
    signed,
    title,
    where,
)

_FEATURES = ("noun", "verb", "pronoun", "subject", "object", "negation")


@dataclass(frozen=True)
class Verdict:
    """What this model shows.

    Attributes:
        ours: Its numbers with their intervals, a sentence each.
        verdict: AGREES, PARTLY, CONTRADICTS or OPEN.
        because: By which rule.
    """

    ours: tuple[str, ...]
    verdict: str
    because: str


@dataclass(frozen=True)
class Claim:
    """A claim or an open question.

    Attributes:
        name: C1 to C6, Q1 to Q3.
        section: Where the paper has it.
        claim: What it says, in our words.
        published: Its number, of bert-base-uncased.
        queries: The lines that ask it.
        judge: Reads the numbers; None where they were not measured.
    """

    name: str
    section: str
    claim: str
    published: str
    queries: tuple[str, ...]
    judge: Callable[[Numbers], Verdict | None]


def verdicts(numbers: Numbers) -> Iterator[tuple[Claim, Verdict]]:
    """Yield each claim with its verdict; one that was not measured is open."""
    for claim in CLAIMS:
        yield (
            claim,
            claim.judge(numbers) or Verdict(("Not measured.",), OPEN, "it was not measured."),
        )


def _patterns(n: Numbers) -> Verdict | None:
    rows = n.classifiers("patterns")
    base = where(rows, run="minilm/mrpc")
    if not base:
        return None
    tuned = [r for r in rows if r["run"].startswith("minilm-mrpc-pretrained-0")]
    twins = [r for r in rows if "random" in r["run"]]
    text = [
        "MRPC, pre-trained: " + "; ".join(f"{r['class']} {interval(r, 'mean', 100, 1)} %" for r in base if r["mean"]) + ".",
    ]  # fmt: skip
    if tuned:
        text.append("Fine-tuned: " + "; ".join(f"{r['class']} {percent(r['mean'])} %" for r in tuned if r["mean"]) + ".")  # fmt: skip
    heads = n.rows("pattern_by_head-mrpc")
    stable = sum(r["stability"] >= 0.9 for r in heads)
    if heads:
        text.append(f"{stable} of {len(heads)} heads have one class in 90 % of their maps or more.")
    else:
        text.append("Whether heads keep one class (`pattern_by_head`) was not asked yet.")
    outside = _outside(base)
    text.append(
        f"Outside of the classifier's domain: {percent(outside)} % of the maps, of random twins {percent(_outside(twins) if twins else None)} %."
    )
    shown = sum(r["mean"] for r in base if r["class"] not in ("heterogeneous", "none"))
    verdict = OPEN
    if heads:
        held = (shown > 0.5, stable >= len(heads) / 2)
        whole = all(held) and outside <= 0.2
        verdict = AGREES if whole else PARTLY if any(held) else CONTRADICTS
    return Verdict(
        tuple(text),
        verdict,
        "agrees if most maps have a pattern and most heads keep one; in part if one of the two holds, or over a fifth of the maps lie outside of what the classifier knows.",
    )


def _outside(rows: list[Row]) -> float:
    """Return the share of maps that the classifier does not know, over all classes."""
    total = sum(r["mean"] for r in rows if r["out_of_domain"] is not None)
    return sum(r["mean"] * r["out_of_domain"] for r in rows if r["out_of_domain"] is not None) / (
        total or 1
    )


def _frames(n: Numbers) -> Verdict | None:
    best, norm = (n.best("frame_heads-frames", by) for by in ("weight", "norm"))
    if not best:
        return None
    matter = [(title(task), r) for task in n.content["classifiers"]["disabled"] for r in n.disabled(task, "frame_heads_matter") if r["above_99th"] and r["cost_q"] is not None]  # fmt: skip
    text = [
        f"Head {best['place']} gives {interval(best, 'value')} more to the frame's word than to other words of the sentence (q {p_value(best['q'])}); by norm {_placed(norm)}.",
        f"{best['above']} of {best['of']} heads are above other words with q < 0.05, by norm {norm.get('above', '–')}; the best head of a random twin {number(best['twins'], 3)}.",
    ]
    if matter:
        text.append("Without the heads above the 99th percentile: " + "; ".join(f"{task} {r['layer']}.{r['head']} {signed(r['difference'], 1, 100)} points, q {p_value(r['cost_q'])}" for task, r in matter) + ".")  # fmt: skip
    low = best["low"]
    found = low is not None and best["twins"] is not None and low > max(0, best["twins"])
    verdict = CONTRADICTS if not found else AGREES if best["above"] <= best["of"] / 10 else PARTLY
    return Verdict(
        tuple(text),
        verdict,
        "such heads must be above other words and random twins; the paper has two of 144, so in part if more than a tenth are.",
    )


def _last_layers(n: Numbers) -> Verdict | None:
    texts, last = [], []
    for task in n.content["trained"]:
        rows = n.trained(task, "drift_by_layer")
        if not rows:
            continue
        ends = rows[-2:]
        last.append(max(r["high"] for r in ends) < min(r["low"] for r in rows[:-2]))
        texts.append(
            f"{title(task)}: cosine {interval(rows[0])} in layer 0, {interval(ends[0])} and {interval(ends[1])} in the last two."
        )
    if not texts:
        return None
    apart, said = _starts(n)
    verdict = AGREES if all(last) and apart else PARTLY if all(last) or apart else CONTRADICTS
    return Verdict(
        (*texts, *said),
        verdict,
        "agrees if in every task the intervals of the last two layers lie below those of all others, and the intervals over seeds of MRPC's "
        "accuracy from the two starts do not overlap; in part if one of the two holds.",
    )


def _starts(n: Numbers) -> tuple[bool, tuple[str, ...]]:
    """Return whether MRPC's accuracy from pre-trained weights lies above that from normal ones, and both in words."""
    now = n.classifiers("table1", task="mrpc", metric="accuracy")
    here = {r["init"]: r for r in now if r["seeds"] > 2}
    dated = [r for r in n.earlier["table1"] if (r["task"], r["metric"]) == ("mrpc", "accuracy")]
    when = "" if {"pretrained", "normal"} <= here.keys() else f", measured {n.earlier['date']}"
    rows = here if not when else {r["init"]: r for r in dated}
    if not {"pretrained", "normal"} <= rows.keys():
        return False, ()
    low, high = (
        r["score"] + side * t.ppf(0.975, r["seeds"] - 1) * r["deviation"] / r["seeds"] ** 0.5
        for r, side in ((rows["pretrained"], -1), (rows["normal"], 1))
    )
    both = [f"{number(rows[i]['score'], 1)} ± {number(rows[i]['deviation'], 1)} from {words}" for i, words in (("pretrained", "the pre-trained weights"), ("normal", "normal ones"))]  # fmt: skip
    return bool(low > high), (f"MRPC accuracy {both[0]}, {both[1]} (seeds: {rows['normal']['seeds']} each{when}).",)  # fmt: skip


def _features(n: Numbers) -> Verdict | None:
    tables = {by: n.rows("feature_attention-mrpc-upos", by) for by in ("weight", "norm")}
    if not tables["weight"]:
        return None
    text, shares = [], {}
    for by, rows in tables.items():
        if not rows:
            continue
        feature = max((r for r in rows if r["feature"] in _FEATURES), key=lambda r: r["mean"])
        special = max((r for r in rows if r["feature"] in ("cls", "sep")), key=lambda r: r["mean"])
        means = [
            sum(r["mean"] for r in rows if r["feature"] in kinds)
            / max(len({(r["layer"], r["head"]) for r in rows}), 1)
            for kinds in (("cls", "sep"), _FEATURES[:1])
        ]
        shares[by] = (feature["mean"], special["mean"])
        text.append(
            f"By {by}: at most {interval(feature)} to a {feature['feature']} (head {feature['layer']}.{feature['head']}), {interval(special)} to [{special['feature'].upper()}] (head {special['layer']}.{special['head']}); mean over heads {number(means[0], 3)} to special tokens, {number(means[1], 3)} to a noun."
        )
    ratio = [feature / special for feature, special in shares.values()]
    verdict = AGREES if all(r < 0.25 for r in ratio) else PARTLY if ratio[0] < 0.5 else CONTRADICTS
    return Verdict(
        tuple(text),
        verdict,
        "agrees if the best head of any feature receives under a quarter of what a special token does, by weight and by norm; in part if by weight alone it is under a half.",
    )


def _pairs(n: Numbers) -> Verdict | None:
    rows = [(name, n.best(f"token_pairs-ewt-{name}")) for name in ("subject", "object")]
    cls = list(n.rows("cls_attention-mrpc-upos"))
    if not all(row for _, row in rows):
        return None
    text = [
        f"{name.capitalize()}: {row['above']} of {row['of']} heads above their own best fixed offset (q < 0.05); the best, {row['place']}, by {interval(row, 'value')}; random twins at most {number(row['twins'], 3)}."
        for name, row in rows
    ]
    if cls:
        kinds = {
            r["feature"]: sum(o["mean"] for o in cls if o["feature"] == r["feature"])
            / len({o["head"] for o in cls})
            for r in cls
        }
        first = sorted(kinds, key=lambda kind: -kinds[kind])
        text.append("[CLS] of the last layer, mean over heads: " + ", ".join(f"{kind} {number(kinds[kind])}" for kind in first[:5]) + ".")  # fmt: skip
    found = [row["above"] and row["low"] > 0 for _, row in rows]
    rule = "agrees if no head is above its best offset and [CLS] of the last layer attends most to [SEP]; in part if one of the two holds."
    if not cls:
        return Verdict((*text, "Where [CLS] looks was not asked yet."), OPEN, rule)
    held = (not any(found), first[0] == "sep")
    verdict = AGREES if all(held) else PARTLY if any(held) else CONTRADICTS
    return Verdict(tuple(text), verdict, rule)


def _gains(n: Numbers) -> Verdict | None:
    texts, established = [], []
    for task in n.content["classifiers"]["disabled"]:
        heads = n.without_head(task)
        if not heads:
            continue
        best = heads[-1]
        gains = [r for r in n.disabled(task) if r["q"] < 0.05 and r["difference"] > 0]
        established.append(bool(gains))
        up = sum(r["difference"] > 0 for r in heads)
        texts.append(
            f"{title(task)}, {best['n']} inputs: {up} of {len(heads)} single heads score higher when disabled, at best {best['setting']}: {_points(best)} points ({_turned(best)}p {p_value(best['p'])}, q {p_value(best['q'])}); {len(gains)} of {len(n.disabled(task))} settings gain with q < 0.05."
        )
    if not texts:
        return None
    return Verdict(
        tuple(texts),
        AGREES if all(established) else PARTLY if any(established) else OPEN,
        "agrees if in every task a gain has q < 0.05 among all settings tried; without that, gains are no more than the same inputs give by chance.",
    )


def _placed(row: Row) -> str:
    """Return the head of a row and its value; a dash where it was not asked."""
    return f"{row['place']}: {interval(row, 'value')}" if row else "–"


def _turned(row: Row) -> str:
    """Say how many inputs become right and wrong; nothing for a score that is no share of inputs."""
    if row["to_right"] is None:
        return ""
    return f"{row['to_right']} inputs become right and {row['to_wrong']} wrong, "


def _points(row: Row) -> str:
    return f"{signed(row['difference'], 1, 100)} [{signed(row['low'], 1, 100)}, {signed(row['high'], 1, 100)}]"


def _words(n: Numbers) -> Verdict | None:
    found = [(t, n.best(f"word_match-{t}"), n.best(f"word_match-{t}", "norm")) for t in ("mrpc", "rte")]  # fmt: skip
    found = [each for each in found if each[1]]
    if not found:
        return None
    text = [
        f"{title(task)}: head {row['place']}, {interval(row, 'value')} above unequal words (by norm {_placed(norm)}); {_twins(row)}."
        for task, row, norm in found
    ]
    good = [row["twins"] is not None and row["low"] > row["twins"] for _, row, _ in found]
    return Verdict(
        tuple(text),
        AGREES if all(good) else PARTLY if any(good) else CONTRADICTS,
        "agrees if in each task the best head's interval lies above what random twins give equal words, which is more than they give above unequal ones; in part if it does in one, or one has no twins.",
    )


def _twins(row: Row) -> str:
    return (
        "no random twins"
        if row["twins"] is None
        else f"random twins give equal words {number(row['twins'], 3)} at most"
    )


def _languages(n: Numbers) -> Verdict | None:
    rows = n.rows("language_summary-ewt-order")
    if not rows:
        return None
    last = next((r for r in rows if r["measure"] == "head_last"), {})
    return Verdict(
        (f"English EWT: the head comes last in {interval(last, 'mean', 100, 1)} % of links.",),
        "cannot be said of an English model",
        "MiniLM knows English alone; [study-languages.md](study-languages.md) asks a multilingual model in four languages.",
    )


def _pruned(n: Numbers) -> Verdict | None:
    rows = n.pruned()
    if not rows:
        return None
    row = rows[0]
    return Verdict(
        (
            f"{title(row['dataset'])}: {row['n_disabled']} of {row['of_heads']} heads disabled by the search; over {row['n']} held-out inputs {percent(row['lost'])} [{percent(row['low'])}, {percent(row['high'])}] points lost of {percent(row['asked'])} asked (p {p_value(row['p'])}){_measured(row)}.",
            f"Random sets of the same size and layers lose {percent(row['others_lost'])} ({percent(row['others_low'])} to {percent(row['others_high'])}) points; as good: p {p_value(row['good_p'])}. As many heads of least gradient lose {percent(row['gradient_lost'])}.",
        ),
        OPEN if row["verdict"] == "not confirmed" else row["verdict"],
        "the verdict of the inputs that the search did not see.",
    )


def _measured(row: Row) -> str:
    return f"; measured {row['date']}" if row.get("date") else ""


def _relations(n: Numbers) -> Verdict | None:
    texts = []
    for name, corpus in (("ewt", "EWT"), ("frames", "FrameNet"), ("gap", "GAP")):
        rows, norm = (n.rows(f"relations-{name}", by) for by in ("weight", "norm"))
        if not rows:
            continue
        best = max(rows, key=lambda r: -9 if r["difference"] is None else r["difference"])
        name_ = " ".join(str(best[c]) for c in ("relation", "label", "direction") if best.get(c))
        texts.append(
            f"{corpus}: {sum(bool(r['above']) for r in rows)} of {len(rows)} relations and directions have a head above the best fixed offset, held out (by norm {sum(bool(r['above']) for r in norm)}); most {name_}, {best['layer']}.{best['head']}: {interval(best, 'difference', 100, 1)} points."
        )
    if not texts:
        return None
    return Verdict(
        tuple(texts),
        "some do",
        "counted are relations whose head, chosen on one half of the texts, beats the best offset on the other with q < 0.05.",
    )


CLAIMS = (
    Claim("C1", "4.1", "a few patterns repeat over heads, tasks and inputs", "five classes; heterogeneous 32 % (MRPC) to 61 % (QQP)",
          ("attnstore query pattern_shares", "attnstore query pattern_by_head --run minilm/mrpc"), _patterns),
    Claim("C2", "4.2", "a few heads follow frame-semantic links", "two of 144, 0.201 and 0.209, above the 99th percentile",
          ("attnstore query frame_heads --run minilm/frames", "attnstore query frame_heads_matter --run minilm/frames --param model=MODEL --param dataset=mrpc"), _frames),
    Claim("C3", "4.3", "fine-tuning changes the last two layers most, and what it reaches comes from pre-training", "MRPC accuracy 82.3 against 68.3 from normal weights",
          ("attnstore query drift_by_layer --run RUN", "attnstore query table1"), _last_layers),
    Claim("C4", "4.4", "attention to linguistic features is negligible beside special tokens", "figures",
          ("attnstore query feature_attention --run minilm/mrpc",), _features),
    Claim("C5", "4.5", "heads along relations are diagonal ones, and [CLS] of the last layer looks at [SEP]", "figures",
          ("attnstore query token_pairs --run minilm/ewt --param relation=subject", "attnstore query cls_attention --run minilm/mrpc"), _pairs),
    Claim("C6", "4.6", "disabling single heads raises the score", "+0.1 (STS-B) to +1.2 (MRPC) points",
          ("attnstore query heads_that_hurt --param model=MODEL --param dataset=mrpc",), _gains),
    Claim("S5", "5", "some heads link equal words of two sentences", "(3, 0) and (1, 11) on STS-B and RTE",
          ("attnstore query word_match --run minilm/rte",), _words),
    Claim("Q1", "6", "are the patterns the same in other languages?", "–", ("attnstore query language_summary --run minilm/ewt --param part=order",), _languages),
    Claim("Q2", "6", "which smaller architecture is enough?", "–", ("attnstore query pruned_sets",), _pruned),
    Claim("Q3", "4.2, 6", "which further relations do heads follow?", "–", ("attnstore query relations --run minilm/ewt",), _relations),
)  # fmt: skip
