"""docs/headers.md shows the table that counts."""

from pathlib import Path

from kmq.intake.header_table import TABLE, Way
from kmq.phases.rewriting import RECIPIENTS, SENDERS

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "headers.md").read_text()


def test_the_document_has_the_table_row_by_row():
    rows = [
        "| field | " + " | ".join(way.value for way in Way) + " |",
        "|---" * (1 + len(Way)) + "|",
        *(f"| {row.field} | " + " | ".join(row.on(way).value for way in Way) + " |" for row in TABLE),
    ]
    assert "\n\n" + "\n".join(rows) + "\n\n" in DOCUMENT


def test_the_document_names_the_fields_that_are_rewritten():
    table = {
        tuple(line.split(" | ")[1:]): line for line in DOCUMENT.splitlines() if line.startswith("| the envelope's ")
    }
    for known, lines in ((SENDERS, "senders"), (RECIPIENTS, "recipients")):
        (named,) = [line for line in table.values() if f"`{lines}`, then `addresses`" in line]
        fields = [word for word in named.partition("|")[2].partition("|")[0].split(", ") if "envelope" not in word]
        assert {word.strip().lower().encode() for word in fields} == known
