"""A site's own line of a description, without what would be about few of its rows."""

from __future__ import annotations

from typing import Any

from skfedfocal.describe import describe_clients
from skfedfocal.flower._rows import SiteRows


def described(rows: SiteRows, min_rows: int) -> dict[str, Any]:
    """The line of `describe_clients`, its columns in the order of the site's table."""
    (line,) = describe_clients(rows.X, rows.y, min_rows=min_rows).clients.values()
    return {
        "rows": line["rows"],
        "classes": list(line["classes"].items()),
        "columns": list(line["columns"].values()),
    }
