"""The two languages have the same shape, and what the README shows is what runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fairque.core.timing import Timing

ROOT = Path(__file__).parent.parent.parent
ENGLISH, JAPANESE = ROOT / "docs/en", ROOT / "docs/ja"
PAGES = sorted(path.name for path in ENGLISH.glob("*.md"))


def shape(text: str) -> list[str]:
    """A page without its prose: headings by level, code as it is but for comments, tables by their size."""
    found: list[str] = []
    code: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("```"):
            if code is None:
                code = [line]
            else:
                found.append("\n".join(code))
                code = None
        elif code is not None:
            # A fence without a language is prose in columns: the first one is compared.
            code.append(re.split(r" +#" if len(code[0]) > 3 else r"(?<=\S) {2,}", line)[0])
        elif heading := re.match(r"#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            found.append("row of " + str(line.count("|")))
        elif line.startswith("- "):
            found.append("item")
        elif line.strip():
            found.append("paragraph")
    return found


def names(text: str) -> Counter[str]:
    """What stands in code marks outside of fences: names are the same in every language."""
    return Counter(re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_both_languages_have_the_same_pages() -> None:
    assert sorted(path.name for path in JAPANESE.glob("*.md")) == PAGES
    assert "index.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_same_shape_in_both_languages(page: str) -> None:
    english, japanese = ((folder / page).read_text(encoding="utf-8") for folder in (ENGLISH, JAPANESE))
    assert shape(english) == shape(japanese)
    assert links(english) == links(japanese)
    assert names(english) == names(japanese)
    assert re.search(r"[ぁ-んァ-ン]", japanese)


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{folder}/{page}" for folder in ("en", "ja") for page in PAGES)]
)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in links(path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("name", ["quickstart.py", "scheduled_report.py"])
def test_the_readme_s_examples_run_and_print_what_the_readme_shows(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = ROOT / "examples" / name
    assert f"```python\n{example.read_text(encoding='utf-8')}```" in readme
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"```text\n{done.stdout}```" in readme
    assert len(example.read_text().splitlines()) <= 25


@pytest.mark.parametrize("folder", [ENGLISH, JAPANESE])
def test_what_is_said_of_the_days_on_which_clocks_change_is_true(folder: Path) -> None:
    text = (folder / "scheduling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+)` \| (.+ UTC.+) \| (.+ UTC.+) \|$", text, flags=re.MULTILINE)
    assert len(rows) == 4
    for expr, *cells in rows:
        for day, cell in zip((date(2027, 3, 28), date(2027, 10, 31)), cells, strict=True):
            named = set(re.findall(r"(\d\d:\d\d CES?T)\W{1,2}(\d\d:\d\d) UTC", cell))
            assert named
            assert named <= fire_times(expr, day)


def fire_times(expr: str, day: date) -> set[tuple[str, str]]:
    """Of a day in Berlin, by the clock there and by UTC's."""
    zone = ZoneInfo("Europe/Berlin")
    midnight = round(datetime.combine(day, time(), zone).timestamp() * 1000)
    times = Timing(cron=expr, timezone="Europe/Berlin").next(midnight - 1, 100)
    moments = [datetime.fromtimestamp(fire / 1000, UTC) for fire in times]
    return {
        (f"{moment.astimezone(zone):%H:%M %Z}", f"{moment:%H:%M}")
        for moment in moments
        if moment.astimezone(zone).date() == day
    }


def test_every_test_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(test_\w+\.py)`", readme))
    found = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert names - found == set()
    assert len(names) >= 5
