"""Tables and the results page, from the records alone."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from scipy.stats import rankdata

import skfedfocal

from . import __doc__ as PROTOCOL
from .methods import CHOOSES_ITSELF, METHODS
from .runner import (
    Job,
    Plan,
    Record,
    Results,
    canonical,
    default_test,
    scenario_of,
    tuned_test,
)

BASE = "fedfocal"
Cells = dict[tuple[str, str], np.ndarray]  # (scenario, method) -> value per seed


# -- the file of results ---------------------------------------------------------------------


def collect(plan: Plan, results: Results) -> dict[str, Any]:
    """What is committed: the test records as a table, and how they came about.

    Only scenarios and methods with all seeds are in it, so that all means of a scenario are over
    the same seeds.
    """
    records: list[Record] = []
    for leg, job_of in (("default", default_test), ("tuned", tuned_test)):
        for scenario in plan.scenarios:
            for name in plan.methods:
                try:
                    jobs = [
                        job_of(plan, results, scenario, METHODS[name], seed)
                        for seed in plan.seeds(scenario)
                    ]
                    found = [results.records[job.key] for job in jobs]
                except KeyError:  # not run yet
                    continue
                records += [{"leg": leg, **record} for record in found]
    columns = list(dict.fromkeys(name for record in records for name in record if name != "fold"))
    return {
        "scale": plan.scale,
        "n_seeds": plan.n_seeds,
        "scenarios": {name: plan.scenario(name).title for name in plan.scenarios},
        "machine": machine(),
        "cpu_hours": round(_cpu_seconds(results) / 3600, 2),
        "columns": columns,
        "rows": [[_short(record.get(name)) for name in columns] for record in records],
    }


def merge(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables in one: what was run later replaces what was there, method by method.

    Earlier results of settings that the methods no longer have are dropped.
    """
    records = records_of(later)
    new = {(r["scenario"], r["method"]) for r in records}
    known = {(name, canonical(own)) for name, method in METHODS.items() for own in method.own}
    kept = [
        r
        for r in records_of(earlier)
        if (r["scenario"], r["method"]) not in new and (r["method"], r["own"]) in known
    ]
    columns = list(dict.fromkeys([*earlier["columns"], *later["columns"]]))
    return {
        **later,
        "scenarios": {**earlier["scenarios"], **later["scenarios"]},
        "cpu_hours": round(earlier["cpu_hours"] + later["cpu_hours"], 2),
        "columns": columns,
        "rows": [[record.get(name) for name in columns] for record in kept + records],
    }


def _cpu_seconds(results: Results) -> float:
    """Of all trainings; what several records were taken from counts once."""
    return sum({Job(*key).training: r["seconds"] for key, r in results.records.items()}.values())


def machine() -> dict[str, str]:
    """Processor and versions: figures belong to the machine they were taken on."""
    return {
        "processor": _processor(),
        "python": platform.python_version(),
        "skfedfocal": skfedfocal.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return int(value) if value == int(value) and abs(value) >= 1 else round(value, 5)


def dump(table: Mapping[str, Any], path: Path) -> None:
    """JSON with one record a line, which a diff can show."""
    head = {name: value for name, value in table.items() if name != "rows"}
    rows = ",\n".join(json.dumps(row) for row in table["rows"])
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n'
    path.write_text(text)


def records_of(table: Mapping[str, Any]) -> list[Record]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


# -- summaries -------------------------------------------------------------------------------


def cells(records: Iterable[Record], leg: str, measure: str) -> Cells:
    """Values of a measure by scenario and method, in the order of seeds."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        if record["leg"] == leg and record.get(measure) is not None:
            by_seed = found.setdefault((record["scenario"], record["method"]), {})
            by_seed[record["seed"]] = record[measure]
    return {key: np.array([v for _, v in sorted(v.items())]) for key, v in found.items()}


def methods_in(values: Cells) -> list[str]:
    return [name for name in METHODS if any(method == name for _, method in values)]


def scenarios_in(values: Cells, wanted: Iterable[str]) -> list[str]:
    return [name for name in wanted if any(scenario == name for scenario, _ in values)]


def _all_tuned(values: Cells, records: Iterable[Record]) -> bool:
    """Whether all that was tested at default settings was tuned as well."""
    return set(cells(records, "default", "balanced_accuracy")) <= set(values)


def fixed(names: Iterable[str]) -> list[str]:
    """Federated methods that do not choose by themselves: those that are ranked."""
    return [n for n in names if METHODS[n].federated and n not in CHOOSES_ITSELF]


def mean_ranks(values: Cells, scenarios: list[str], names: list[str]) -> dict[str, float]:
    """Mean over scenarios of the rank of the mean; 1 is best, equals share their ranks."""
    scores = np.array([[values[s, n].mean() for n in names] for s in scenarios])
    ranks = np.array([rankdata(-row) for row in scores.round(6)])
    return dict(zip(names, ranks.mean(0).tolist(), strict=True))


def difference(
    values: Cells, scenarios: list[str], name: str, base: str = BASE
) -> tuple[float, float]:
    """Mean paired difference over scenarios and seeds, and its standard error over seeds."""
    gaps = [values[s, name] - values[s, base] for s in scenarios]
    mean = float(np.mean([gap.mean() for gap in gaps]))
    if min(map(len, gaps)) < 2:
        return mean, float("nan")
    errors = np.array([gap.std(ddof=1) / np.sqrt(len(gap)) for gap in gaps])
    return mean, float(np.sqrt((errors**2).sum()) / len(errors))


# -- the page --------------------------------------------------------------------------------


def page(table: Mapping[str, Any], command: str, more: str = "") -> str:
    """The results page, in Markdown; `more` goes before the account of how it was measured."""
    records = records_of(table)
    titles = table["scenarios"]
    parts = [
        "# Results",
        f"Made by `{command}`; do not edit by hand. Balanced accuracy in percent, means over "
        f"{table['n_seeds']} seeds or more. Taken on {table['machine']['processor']}, "
        + ", ".join(f"{k} {v}" for k, v in table["machine"].items() if k != "processor")
        + f"; {table['cpu_hours']} CPU hours in all.",
    ]
    for leg, title in (("default", "At default settings"), ("tuned", "Tuned")):
        values = cells(records, leg, "balanced_accuracy")
        scenarios = scenarios_in(values, titles)
        if not scenarios or (leg == "tuned" and not _all_tuned(values, records)):
            continue  # a run that was stopped has tuned some methods and not others
        parts.append(f"## {title}")
        if leg == "default":
            parts += [_claims(values, scenarios, titles), _set_by_set(values, scenarios, titles)]
        else:
            parts += ["Each method with its own parameter chosen on validation rows."]
        parts += [_overview(values, scenarios), _by_scenario(values, scenarios, titles)]
    parts += [_probabilities(records, titles), _costs(records, titles), more]
    parts += ["## How it was measured", _protocol(), _budgets(table, titles)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _complete(values: Cells, scenarios: list[str], names: Iterable[str]) -> list[str]:
    return [n for n in names if all((s, n) in values for s in scenarios)]


def _claims(values: Cells, scenarios: list[str], titles: Mapping[str, str]) -> str:
    """What the figures say of the default classifier, good or bad."""
    names = _complete(values, scenarios, methods_in(values))
    if BASE not in names:
        return ""
    lines = [*_against_published(values, scenarios, titles, fixed(names))]
    if "pooled" in names:
        share = {s: values[s, BASE].mean() / values[s, "pooled"].mean() for s in scenarios}
        n_below = sum(value < 0.98 for value in share.values())
        lines.append(
            "Share of the pooled model's balanced accuracy: "
            f"{_mean_and_least(share, titles, ' %')}; below 98 % on {n_below} of "
            f"{len(scenarios)} sets."
        )
    for name in CHOOSES_ITSELF:
        if name in names:
            gaps = {s: values[s, name].mean() - values[s, BASE].mean() for s in scenarios}
            lines.append(
                "FedFocalClassifierCV minus the default: "
                f"{_mean_and_least(gaps, titles, ' points', '+')}."
            )
    return "\n".join(f"- {line}" for line in lines)


def _against_published(
    values: Cells, scenarios: list[str], titles: Mapping[str, str], ranked: list[str]
) -> Iterator[str]:
    """Ranks, and where the best published method is ahead."""
    published = _published(ranked)
    for names, whom in (
        (ranked, f"Of {len(ranked)} fixed federated methods"),
        ([*published, BASE], f"Against the {len(published)} published methods alone"),
    ):
        ranks = mean_ranks(values, scenarios, names)
        place = sorted(ranks, key=ranks.__getitem__).index(BASE) + 1
        yield f"{whom}, the default has mean rank {ranks[BASE]:.1f}, place {place}."
    if not published:
        return
    best = {s: _best(values, s, published) for s in scenarios}
    short = {s: values[s, best[s]].mean() - values[s, BASE].mean() for s in scenarios}
    worst = max(short, key=short.__getitem__)
    n_short = sum(gap > 0.01 for gap in short.values())
    yield (
        f"It is more than one point below the best published method on {n_short} of "
        f"{len(scenarios)} sets; at worst {100 * short[worst]:.1f} points below "
        f"{METHODS[best[worst]].title} on {titles[worst]}."
    )


def _published(names: Iterable[str]) -> list[str]:
    return [n for n in names if METHODS[n].family == "published"]


def _best(values: Cells, scenario: str, names: list[str]) -> str:
    return max(names, key=lambda n: values[scenario, n].mean())


def _mean_and_least(
    by_set: Mapping[str, float], titles: Mapping[str, str], unit: str, sign: str = ""
) -> str:
    low = min(by_set, key=by_set.__getitem__)
    mean = float(np.mean(list(by_set.values())))
    return (
        f"{100 * mean:{sign}.1f}{unit} on average, "
        f"{100 * by_set[low]:{sign}.1f}{unit} at the least ({titles[low]})"
    )


def _set_by_set(values: Cells, scenarios: list[str], titles: Mapping[str, str]) -> str:
    """The default classifier on each set, beside what matters most."""
    names = _complete(values, scenarios, methods_in(values))
    published = _published(names)
    if not {BASE, "fedavg", "pooled"} <= set(names):
        return ""

    def mean(scenario: str, name: str) -> float:
        return float(100 * values[scenario, name].mean())

    head = [
        "set", "FedFocalClassifier", "minus FedAvg", "pooled rows minus FedAvg",
        "minus the best published", "% of pooled",
        *(f"{METHODS[n].title} minus it" for n in CHOOSES_ITSELF),
    ]  # fmt: skip
    rows = []
    for s in scenarios:
        best = _best(values, s, published)
        ours, fedavg, pooled = (mean(s, n) for n in (BASE, "fedavg", "pooled"))
        rows.append(
            [
                titles[s],
                f"{ours:.1f}",
                f"{ours - fedavg:+.1f}",
                f"{pooled - fedavg:+.1f}",
                f"{ours - mean(s, best):+.1f} ({METHODS[best].title})",
                f"{100 * ours / pooled:.1f}",
                *(f"{mean(s, n) - ours:+.1f}" if n in names else "–" for n in CHOOSES_ITSELF),
            ]
        )
    return markdown(head, rows)


def _overview(values: Cells, scenarios: list[str]) -> str:
    names = _complete(values, scenarios, methods_in(values))
    ranked = fixed(names)
    ranks = mean_ranks(values, scenarios, ranked)
    order = sorted(names, key=lambda n: (n not in ranks, ranks.get(n, 0)))
    rows = []
    for name in order:
        means = np.array([values[s, name].mean() for s in scenarios])
        rows.append(
            [
                METHODS[name].title,
                f"{ranks[name]:.1f}" if name in ranks else "–",
                f"{100 * means.mean():.1f}",
                _gap(values, scenarios, name),
                _share(values, scenarios, name),
            ]
        )
    head = ["method", "mean rank", "mean", "minus FedFocalClassifier (SE)", "% of pooled"]
    return markdown(head, rows)


def _gap(values: Cells, scenarios: list[str], name: str) -> str:
    if name == BASE or any((s, BASE) not in values for s in scenarios):
        return "–"
    gap, error = difference(values, scenarios, name)
    return f"{100 * gap:+.1f} ({100 * error:.1f})"


def _share(values: Cells, scenarios: list[str], name: str) -> str:
    if any((s, "pooled") not in values for s in scenarios):
        return "–"
    shares = [values[s, name].mean() / values[s, "pooled"].mean() for s in scenarios]
    return f"{100 * np.mean(shares):.1f}"


def _by_scenario(values: Cells, scenarios: list[str], titles: Mapping[str, str]) -> str:
    """Mean and standard deviation over seeds, and the paired difference where it is clear."""
    names = methods_in(values)
    rows = []
    for name in names:
        row = [METHODS[name].title]
        for s in scenarios:
            if (s, name) not in values:
                row.append("–")
                continue
            v = 100 * values[s, name]
            spread = v.std(ddof=1) if len(v) > 1 else np.nan
            text = f"{v.mean():.1f} ± {spread:.1f}"
            if name != BASE and (s, BASE) in values:
                gap, error = difference(values, [s], name)
                text += f" ({100 * gap:+.1f}, SE {100 * error:.1f})"
            row.append(text)
        rows.append(row)
    note = "Mean ± standard deviation over seeds (paired difference to FedFocalClassifier, its SE)."
    return note + "\n\n" + markdown(["method", *(titles[s] for s in scenarios)], rows)


_KINDS = {
    "own": "`predict_proba`, where it is meant for",
    "raw": "raw softmax, same place",
    "balanced": "`predict_proba`, classes equally frequent",
    "uniform": "posterior for equally frequent classes",
    "natural": "posterior for the training population",
}


def _probabilities(records: list[Record], titles: Mapping[str, str]) -> str:
    parts = [
        "## Probabilities",
        "Means over sets and seeds at default settings. The second column is about the population "
        "that `predict_proba` is meant for: equally frequent classes after class weights or logit "
        "adjustment, that of the training rows otherwise. 15 bins.",
    ]
    for measure, title in (
        ("log_loss", "Log-loss"),
        ("ece", "Expected calibration error of the largest probability, in percent"),
        ("classwise_ece", "Expected calibration error, mean over classes, in percent"),
    ):
        tables = {k: cells(records, "default", f"{k}_{measure}") for k in _KINDS}
        scenarios = scenarios_in(tables["own"], titles)
        if not scenarios:
            return ""
        factor, digits = (1, 3) if measure == "log_loss" else (100, 1)
        rows = []
        for name in _complete(tables["own"], scenarios, methods_in(tables["own"])):
            row = [METHODS[name].title]
            for kind in _KINDS:
                known = [
                    tables[kind][s, name].mean() for s in scenarios if (s, name) in tables[kind]
                ]
                row.append(f"{factor * np.mean(known):.{digits}f}" if known else "–")
            rows.append(row)
        parts += [f"### {title}", markdown(["method", *_KINDS.values()], rows)]
    return "\n\n".join(parts)


def _costs(records: list[Record], titles: Mapping[str, str]) -> str:
    down, up, seconds = (
        cells(records, "default", name) for name in ("bytes_down", "bytes_up", "seconds")
    )
    scenarios = scenarios_in(seconds, titles)
    rows = []
    for name in _complete(seconds, scenarios, methods_in(seconds)):
        traffic = [
            (down[s, name] + up[s, name]).mean() / 2**20 for s in scenarios if (s, name) in down
        ]
        federated = METHODS[name].federated and traffic
        rows.append(
            [
                METHODS[name].title,
                f"{np.mean(traffic):.1f}" if federated else "–",
                f"{np.mean([seconds[s, name].mean() for s in scenarios]):.2f}",
            ]
        )
    head = ["method", "MiB both ways", "CPU seconds of a training"]
    return "## Costs\n\nMeans over sets and seeds, at default settings.\n\n" + markdown(head, rows)


def _protocol() -> str:
    _, _, body = (PROTOCOL or "").partition("--------\n")
    return body.strip()


def _budgets(table: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    rows = []
    for name, title in titles.items():
        scenario = scenario_of(name, table["scale"])
        budget = scenario.budget
        rows.append(
            [
                title,
                "-".join(map(str, budget.hidden_layer_sizes)),
                str(budget.clients_per_round) if budget.clients_per_round != 1.0 else "all",
                str(budget.n_rounds),
                str(budget.n_local_epochs),
                str(budget.batch_size),
                str(table["n_seeds"] * scenario.repeats),
            ]
        )
    head = ["set", "hidden", "clients a round", "rounds", "local epochs", "batch", "seeds"]
    return markdown(head, rows)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
