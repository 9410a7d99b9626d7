"""What the files beside the package say of its version is what the package says."""

import re
from pathlib import Path

from skfedfocal import __version__

ROOT = Path(__file__).parents[1]
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def cited(field):
    found = re.search(rf'^{field}: *"?([^"\n]+)"?$', CITATION, flags=re.M)
    return found and found[1]


def test_citation_has_the_version_and_of_a_release_its_date():
    assert cited("version") == __version__
    released = re.search(rf"^## \[{re.escape(__version__)}\] - (.*)$", CHANGELOG, flags=re.M)
    if ".dev" in __version__:
        assert cited("date-released") is None
        assert released is None
    else:
        assert cited("date-released") == released[1]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", released[1])


def test_changelog_begins_with_what_is_unreleased():
    assert re.search(r"^## \[(.*?)\]", CHANGELOG, flags=re.M)[1] == "Unreleased"
