"""The page docs/results.md, from the summary alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.page import form, render

from . import coverage, defaults, length, summary
from .methods import BASE, CHOOSES, ELSEWHERE, METHODS
from .sets import SETS, Scenario

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "results.md"
TITLES = {name: method.title for name, method in METHODS.items()}
PUBLISHED = [m.name for m in METHODS.values() if m.family == "published"]
RANKED = [  # those that the sets do not change
    m.name
    for m in METHODS.values()
    if m.family != "reference" and m.name not in (CHOOSES, ELSEWHERE)
]


def page(folder: Path = HERE) -> str:
    """The page, from the summary in a folder."""
    accuracy = summary.accuracy(folder)
    means = pd.read_csv(folder / "means.csv", index_col="method")
    facts = json.loads((folder / "facts.json").read_text())
    legs = {
        leg: accuracy.loc[leg].dropna(axis=1, how="all")
        for leg in ("default", "tuned")
        if leg in accuracy.index
    }
    mean = legs["default"].loc["mean"]
    order = [name for name in METHODS if name in means.index]
    return render(
        HERE / "results.md.j2",
        facts=facts,
        legs=legs,
        title=title,
        titles=TITLES,
        claims=Claims(mean, BASE),
        elsewhere=Claims(mean, ELSEWHERE),
        overview=overview,
        by_set=by_set,
        probabilities=partial(probabilities, means.loc[order]),
        costs=costs(means.loc[order]),
        budgets=budgets([SETS[name] for name in accuracy], facts["n_seeds"]),
        defaults=defaults.section(folder / "defaults.csv"),
        length=length.section(folder / "length.csv"),
        coverage=coverage.section(folder / "coverage.csv"),
    )


class Claims:
    """What the figures say of a form of the default classifier, good or bad.

    Parameters
    ----------
    mean : DataFrame
        Balanced accuracy in percent, methods by sets.
    name : str
        The method that it is said of.
    """

    def __init__(self, mean: pd.DataFrame, name: str):
        self.mean, self.name = mean.dropna(), name
        self.known = {name, BASE, "fedavg", "pooled", "boosting"} <= set(self.mean.index)
        if not self.known:  # not of all methods: nothing is claimed
            return
        self.n_sets = mean.shape[1]
        ours = self.mean.loc[name]
        published = self.mean.reindex(PUBLISHED).dropna()
        self.best = published.idxmax()
        self.behind = published.max() - ours
        self.share = 100 * ours / self.mean.loc["pooled"]
        tables = [of for of in self.mean if not SETS[of].pixels]
        self.over_boosting = (ours - self.mean.loc["boosting"])[tables]

    def rank(self, published_alone: bool) -> tuple[int, float, int]:
        """Number of methods, mean rank of this one and its place."""
        others = PUBLISHED if published_alone else [of for of in RANKED if of != BASE]
        mean = ranks(self.mean.reindex([self.name, *others]).dropna())
        return len(mean), mean[self.name], int((mean < mean[self.name]).sum()) + 1

    def set_by_set(self) -> pd.DataFrame:
        """On each set, beside what matters most."""
        ours, default, fedavg, pooled = (
            self.mean.loc[name] for name in (self.name, BASE, "fedavg", "pooled")
        )
        best = form(-self.behind, "+.1f") + " (" + self.best.map(TITLES) + ")"
        columns = {
            "as other sets choose it": form(ours, ".1f"),
            "the default minus it": form(default - ours, "+.1f"),
            "it minus the best published": best,
            "minus FedAvg": form(ours - fedavg, "+.1f"),
            "pooled rows minus FedAvg": form(pooled - fedavg, "+.1f"),
            "% of pooled": form(self.share, ".1f"),
            "minus pooled boosting": form(self.over_boosting.reindex(ours.index), "+.1f", "–"),
        }
        return pd.DataFrame(columns).rename(index=title).rename_axis("set")


def title(name: str) -> str:
    """Of a set."""
    return SETS[name].title


def ranks(mean: pd.DataFrame) -> pd.Series:
    """Mean over sets of the rank of the mean; 1 is best, equals share their ranks."""
    return mean.round(3).rank(ascending=False).mean(axis=1)


def overview(leg: pd.DataFrame) -> pd.DataFrame:
    """All methods over all sets, the best first; differences with their standard errors."""
    mean = leg.loc["mean"].dropna()
    rank = ranks(mean.reindex(RANKED).dropna())
    names = [*rank.sort_values(kind="stable").index]
    names += [name for name in METHODS if name in mean.index and name not in names]
    mean, se = mean.loc[names], leg.loc["se"].loc[names]
    pooled = mean.loc["pooled"] if "pooled" in names else np.nan
    gap = (mean - mean.loc[BASE]).mean(axis=1)
    error = np.sqrt((se**2).sum(axis=1)) / se.shape[1]
    found = pd.DataFrame(
        {
            "mean rank": form(rank.reindex(names), ".1f", "–"),
            "mean": form(mean.mean(axis=1), ".1f"),
            "minus FedFocalClassifier (SE)": form(gap, "+.1f") + " (" + form(error, ".1f") + ")",
            "% of pooled": form(100 * (mean / pooled).mean(axis=1), ".1f", "–"),
        }
    )
    found.loc[BASE, "minus FedFocalClassifier (SE)"] = "–"
    return found.rename(index=TITLES).rename_axis("method")


def by_set(leg: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation, and the paired difference to the default with its error."""
    mean, sd, se = (leg.loc[name] for name in ("mean", "sd", "se"))
    gap = mean - mean.loc[BASE]
    text = mean.map("{:.1f}".format) + " ± " + sd.map("{:.1f}".format)
    beside = " (" + gap.map("{:+.1f}".format) + ", SE " + se.map("{:.1f}".format) + ")"
    beside.loc[BASE] = ""
    found = (text + beside).where(mean.notna(), "–")
    found = found.loc[[name for name in METHODS if name in found.index]]
    return found.rename(index=TITLES, columns=title).rename_axis("method")


def probabilities(means: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure of the probabilities, each kind of them."""
    found = means[[f"{kind}_{measure}" for kind in summary.KINDS]].dropna(how="all")
    shown = (
        found.map("{:.3f}".format) if measure == "log_loss" else (100 * found).map("{:.1f}".format)
    )
    shown = shown.where(found.notna(), "–").set_axis(summary.KINDS.values(), axis=1)
    return shown.rename(index=TITLES)


def costs(means: pd.DataFrame) -> pd.DataFrame:
    """Traffic and time; references send nothing."""
    found = means[[*summary.COSTS]].copy()
    found.loc[[n for n in found.index if METHODS[n].family == "reference"], "mib"] = np.nan
    found["mib"], found["seconds"] = form(found.mib, ".1f", "–"), form(found.seconds, ".2f")
    return found.rename(index=TITLES, columns=summary.COSTS)


def budgets(scenarios: list[Scenario], n_seeds: int) -> pd.DataFrame:
    """What every method may spend on each set."""
    rows = {
        s.title: {
            "hidden": "-".join(map(str, s.hidden_layer_sizes)),
            "clients a round": "all" if s.clients_per_round == 1.0 else s.clients_per_round,
            "rounds": s.n_rounds,
            "local epochs": s.n_local_epochs,
            "batch": s.batch_size,
            "seeds": n_seeds * s.repeats,
        }
        for s in scenarios
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("set")
