"""Four hospitals' csv files as they come: gaps, marks, spellings, dates, columns in any order.

python examples/messy_tables.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

# Patients, and the share of the ill.
HOSPITALS = {"bergen": (300, 0.35), "bodo": (120, 0.6), "oslo": (420, 0.2), "tromso": (160, 0.45)}


def write_tables(folder, seed=0):
    """Write the four files, and return their folder."""
    rng, folder = np.random.default_rng(seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for place, (hospital, (n, share)) in enumerate(HOSPITALS.items()):
        ill = rng.random(n) < share
        pains = ["none", "dull", "stabbing"] if hospital != "bodo" else ["none", "dull"]
        worse = np.array([0.2, 0.3, 0.5][: len(pains)]) / sum([0.2, 0.3, 0.5][: len(pains)])
        pain = np.where(ill, rng.choice(pains, n, p=worse), rng.choice(pains, n, p=worse[::-1]))
        smokes = rng.random(n) < np.where(ill, 0.6, 0.35)
        spelling = (["yes", "no"], ["Yes", "No"], [" yes", "no "], ["YES", "NO"])[place]
        table = pd.DataFrame(
            {
                "admitted": pd.to_datetime("2025-01-01")
                + pd.to_timedelta(rng.integers(0, 365, n), "D"),
                "age": rng.normal(52 + 7 * ill, 9).round(),
                "pressure": rng.normal(126 + 9 * ill + 2 * place, 14).round(),
                "cholesterol": rng.normal(210 + 15 * ill, 40).round(),
                "pain": pain,
                "smokes": np.where(smokes, *spelling),
                "ill": np.where(ill, *spelling),
            }
        ).astype(object)
        table["admitted"] = [f"{day:%Y-%m-%d}" for day in table["admitted"]]
        for column, gaps in (("pressure", 0.1), ("cholesterol", 0.25), ("pain", 0.1)):
            table.loc[rng.random(n) < gaps, column] = ("?", "", "NA", "?")[place]
        if hospital == "tromso":
            table["cholesterol"] = "?"  # never measured there
        order = rng.permutation(table.columns)
        table[order].to_csv(folder / f"{hospital}.csv", index=False)
    return folder


if __name__ == "__main__":
    print(write_tables(sys.argv[1]))
