"""The filter language: what it takes, what it means, and how a mistake is answered."""

import re
import sqlite3
import string
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmq.admin import filter_tree, filter_words
from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import MESSAGE, OPERATORS, QUEUE, Property, Table
from kmq.admin.filter_shorthand import narrowed
from kmq.admin.filter_sql import condition
from kmq.admin.filter_tree import parse
from kmq.admin.filter_values import Kind, value_of
from kmq.errors import FilterError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
MANUAL = Path(__file__).resolve().parents[2] / "man" / "kmq-filter.5"

LETTER = {
    "FromAddress": "alice@example.org",
    "Subject": "Re: (urgent) It's 100% 'free', honest",
    "Size": 3 << 20,
    "Status": "Retry",
    "LastError": None,
    "SCL": None,
    "RetryCount": 2,
    "DateReceived": "2026-11-22T09:30:00.000Z",
    "NextRetryTime": None,
    "MessageLatency": "00:00:01.50",
    "Recipients": [{"Address": "bob@example.net"}, {"Address": "carol@sub.example.net"}],
}


def matches(text: str) -> bool:
    return matcher(parse(text, MESSAGE, NOW))(LETTER)


def mistake(text: str, table: Table = MESSAGE) -> list[str]:
    with pytest.raises(FilterError) as caught:
        parse(text, table, NOW)
    assert caught.value.exit_status == 2
    return str(caught.value).split("\n")


# --- what it means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "Size -gt 2MB",
        "size -EQ 3mb",
        "messageSize -ge 3145728 -and Size -le 3 MB",
        "{Size -lt 1GB}",
        "fromaddress -eq ALICE@Example.ORG",
        "from -like *@example.org",
        "FromAddress -like 'alice*ORG'",
        "FromAddress -contains EXAMPLE",
        "FromAddress -notlike *@example.net",
        "FromAddress -match '^a.*\\.org$'",
        "Subject -eq 'Re: (urgent) It''s 100% ''free'', honest'",
        "Subject -like \"*(URGENT)*'free'*\"",
        "Subject -contains 100% ",
        "Status -in Ready, retry",
        "Status -in (Ready, 'retry')",
        "-not Status -eq Ready -and -not (Status -eq Suspended -or Size -lt 1KB)",
        "! Status -eq Ready",
        "Size -gt 1GB -or Size -lt 1KB -or Size -gt 1KB -and Size -lt 1GB",
        "LastError -eq $null",
        "LastError -notcontains 4.7.1",
        "NextRetryTime -eq $NULL",
        "Size -ne $null",
        "SCL -ne 5",
        "Recipients -like *@SUB.example.net",
        "Recipients -eq bob@example.net",
        "to -in (x@y, carol@sub.example.net)",
        "Recipients -notlike *@example.com",
        "DateReceived -gt 2026-11-22T09:29:59Z",
        "DateReceived -lt now -and DateReceived -gt -3h",
        "DateReceived -lt -2h29m",
        "DateReceived -gt 2026-11-01 -and DateReceived -lt '11/30/2026 11:59 PM'",
        "DateReceived -lt 11/30/2026 3:00 PM -and RetryCount -eq 2",
        "MessageLatency -gt 1 -and MessageLatency -lt 00:00:02",
        "MessageLatency -ge 1500ms",
    ],
)
def test_a_message_matches(text: str) -> None:
    assert matches(text), text


@pytest.mark.parametrize(
    "text",
    [
        "Size -gt 3MB",
        "FromAddress -eq alice@example",
        "FromAddress -like alice",
        "FromAddress -like *b*a*@example.org",
        "FromAddress -like alice@example.org*e.org",
        "LastError -ne $null",
        "LastError -contains 4.7.1",
        "NextRetryTime -gt 2000-01-01",
        "NextRetryTime -lt 2100-01-01",
        "SCL -lt 9",
        "SCL -eq 0",
        "Recipients -eq bob",
        "Recipients -ne bob@example.net",
        "Recipients -like bob*carol*",
        "-not -not Status -eq Ready",
        "Size -gt 1GB -and Size -gt 1KB -or Status -eq Ready",
    ],
)
def test_a_message_does_not_match(text: str) -> None:
    assert not matches(text), text


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.SIZE, "512", 512),
        (Kind.SIZE, "25KB", 25 * 1024),
        (Kind.SIZE, "1.5 mb", 1.5 * (1 << 20)),
        (Kind.SIZE, "1GB", 1 << 30),
        (Kind.SIZE, "2kib", 2048),
        (Kind.SPAN, "1d12h", 129600),
        (Kind.SPAN, "2.01:00:00.5", 2 * 86400 + 3600 + 0.5),
        (Kind.NUMBER, "-1", -1),
        (Kind.TIME, "-90s", NOW - 90),
        (Kind.TIME, "2026-11-22t13:00:00+01:00", NOW),
    ],
)
def test_values_and_their_units(kind: Kind, text: str, value: float) -> None:
    assert value_of(kind, text, NOW) == value


def test_a_time_without_offset_is_local() -> None:
    local = datetime(2026, 11, 22, 15, 0).timestamp()
    for text in ("2026-11-22 15:00", "2026-11-22T15:00", "11/22/2026 3:00 PM", "11/22/2026 03:00:00 pm"):
        assert value_of(Kind.TIME, text, NOW) == local, text


def test_none_is_neither_less_nor_more_nor_the_opposite_of_it() -> None:
    for operator in ("-gt", "-ge", "-lt", "-le", "-eq"):
        assert not matches(f"SCL {operator} 5")
        assert matches(f"-not SCL {operator} 5")


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("Siez -gt 3", "Siez", "Siez is no property of a message; Size?"),
        ("Size > 3", "> 3", "'>' stands where an operator was expected"),
        ("Size", "", "the end stands where an operator was expected"),
        ("Size -gt", "", "the end stands where a value was expected"),
        ("Size -gt -and", "-and", "'-and' stands where a value was expected"),
        ("Size -like 3*", "-like", "-like does not go with Size"),
        ("Size -near 3", "-near", "-near is no operator"),
        ("Size -gt many", "many", "'many' is not a size like 512, 25KB, 3MB or 1GB"),
        ("Size -gt $null", "$null", "$null goes with -eq and -ne: whether there is one"),
        ("DateReceived -gt 2026-13-01", "2026-13", "'2026-13-01' is not a time like"),
        ("Status -eq Late", "Late", "Status is never 'Late'"),
        ("(Size -gt 3", "(Size", "the parenthesis that begins here has no end"),
        ("Size -gt 3)", ")", "there is no ( that this ) ends"),
        ("FromAddress -eq 'x", "'x", "the quotation that begins here has no end: '"),
        ("Size -gt 3 and Status -eq Retry", "3 and", "'3 and Status' is not a size like"),
        ("FromAddress -eq a and Status -eq Retry", "-eq Retry", "'-eq' stands where -and, -or or the end was expected"),
        ("Subject -match '('", "'('", "this is no regular expression"),
        ("Size -gt 3 -and", "", "the end stands where a property was expected"),
        ("'Size' -gt 3", "'Size'", "'Size' stands where a property was expected"),
        ("Status -in (Retry, Ready", "", "the end stands where , or ) was expected"),
        ("\x1b[2JSize -gt 3", "\x1b", ""),
    ],
)
def test_a_mistake_is_answered_with_its_place(text: str, at: str, said: str) -> None:
    what, shown, mark, *_ = mistake(text)
    assert what.startswith(said)
    assert shown.isprintable()
    assert mark.index("^") - 4 == (text.rindex(at) if at else len(text)), "the mark stands below it"


def test_the_names_and_operators_that_exist_are_told() -> None:
    text = " ".join(mistake("Foo -eq 1")[3:])
    assert text.split()[2:] == [one.name for one in MESSAGE.properties] == MESSAGE.names
    assert mistake("Size -like 1")[-1] == "Size is a size, and takes -eq -ne -in -gt -ge -lt -le"
    assert mistake("Status -eq x", QUEUE)[-1] == "it can be Active Connecting Ready Retry Suspended"


def test_a_long_filter_shows_the_part_where_the_mistake_is() -> None:
    _, shown, mark, *_ = mistake("Size -gt 1 -and " * 100 + "Foo -eq 1" + " -and Size -gt 1" * 100)
    assert len(shown) < 140
    assert shown[mark.index("^") :].startswith("Foo")


def test_length_depth_and_number_are_bounded() -> None:
    assert "at most 16,384 characters" in mistake("x" * 16_385)[0]
    assert "inside each other" in mistake("(" * 1000 + "Size -eq 1")[0]
    assert "inside each other" in mistake("-not " * 1000 + "Size -eq 1")[0]
    assert parse("(" * 49 + "Size -eq 1" + ")" * 49, MESSAGE)
    assert "at most 2,000 comparisons" in mistake("Size -in " + ",".join(["1"] * 2001))[0]


words = st.sampled_from(
    [
        *MESSAGE.names[:8],
        *OPERATORS[Kind.TEXT],
        "-gt",
        "-and",
        "-or",
        "-not",
        "(",
        ")",
        ",",
        "'",
        '"',
        "$null",
        "3MB",
        "*",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(words, max_size=25).map(" ".join)))
def test_whatever_is_written_is_a_filter_or_a_mistake(text: str) -> None:
    try:
        tree = parse(text, MESSAGE, NOW)
    except FilterError as error:
        assert str(error)
    else:
        assert matcher(tree)(LETTER) in (True, False)


# --- the same in SQL --------------------------------------------------------------------------------------------------

values = st.one_of(st.none(), st.integers(-5, 5), st.text(st.sampled_from("aAßſKé*%_'\\\n "), max_size=4))
names = st.sampled_from(["FromAddress", "Size", "SCL", "Recipients", "DateReceived"])


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    name = draw(names)
    kind = MESSAGE.get(name).kind  # type: ignore[union-attr]
    operator = draw(st.sampled_from([one for one in OPERATORS[kind] if one != "-match"]))
    if kind in (Kind.TEXT, Kind.LIST):
        text = draw(st.text(st.sampled_from("aAßſKé*%_ "), max_size=3))
        return f"{name} {operator} '{text}'"
    value = draw(st.integers(0, 3))
    return f"{name} {operator} {f'1970-01-01T00:00:0{value}Z' if kind is Kind.TIME else value}"


filters = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        inner.map(lambda one: f"-not ({one})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: "(" + " -and ".join(some) + ")"),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: "(" + " -or ".join(some) + ")"),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(filters, st.fixed_dictionaries({name: values for name in ("FromAddress", "Size", "SCL", "Recipients")}))
def test_sql_finds_what_a_look_finds(text: str, row: dict[str, object]) -> None:
    row["DateReceived"] = None if row["Size"] is None else row["SCL"]
    tree = parse(text, MESSAGE, NOW)
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE messages ({', '.join(row)})")
        connection.execute(f"INSERT INTO messages VALUES ({', '.join('?' * len(row))})", list(row.values()))
        found = connection.execute(f"SELECT * FROM messages WHERE {condition(connection, tree)}").fetchall()
    connection.close()
    assert bool(found) == matcher(tree)(row)


def test_a_chain_of_a_thousand_is_no_burden_to_sqlite() -> None:
    text = " -or ".join(f"Size -eq {number}" for number in range(900))
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE messages (Size)")
    connection.execute("INSERT INTO messages VALUES (899), (900)")
    found = connection.execute(f"SELECT Size FROM messages WHERE {condition(connection, parse(text, MESSAGE))}")
    assert found.fetchall() == [(899,)]
    connection.close()


# --- tables and kinds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [MESSAGE, QUEUE], ids=lambda table: table.subject)
def test_what_exchange_documents_works(table: Table) -> None:
    for one in table.properties:
        missing = set(one.documented) - set(one.operators)
        assert missing <= {"-gt", "-ge", "-lt", "-le"} and (not missing or one.kind is Kind.WORDS), one.name


def test_the_manual_page_tells_every_property() -> None:
    messages, _, queues = MANUAL.read_text().partition(".Sh PROPERTIES OF QUEUES")
    for table, text in ((MESSAGE, messages.partition(".Sh PROPERTIES OF MESSAGES")[2]), (QUEUE, queues)):
        told = re.findall(r"^\.It ([A-Za-z]+)\n(.*)$", text.partition(".El")[0], re.MULTILINE)
        assert [name for name, _ in told] == [one.name for one in table.properties]
        for (_, meaning), one in zip(told, table.properties, strict=True):
            plain = meaning.replace("\\-", "-").replace("\\e", "\\").lower()
            assert plain.startswith(one.meaning.lower()), one.name


def test_kinds_by_one_word() -> None:
    rows = [
        {"NextHopCategory": "External", "DeliveryType": "DnsConnectorDelivery", "MessageCount": 0},
        {"NextHopCategory": "Internal", "DeliveryType": "Unreachable", "MessageCount": 2},
        {"NextHopCategory": "External", "DeliveryType": "SmartHostConnectorDelivery", "MessageCount": 1},
    ]

    def found(*include: str, exclude: tuple[str, ...] = ()) -> list[int]:
        test = matcher(narrowed(None, include, exclude, QUEUE))
        return [at for at, row in enumerate(rows) if test(row)]

    assert found() == [0, 1, 2]
    assert found("internal") == [1]
    assert found("Internal,DnsConnectorDelivery") == [0, 1]
    assert found("External", exclude=("Empty",)) == [2]
    with pytest.raises(FilterError, match=r"'Far' is no kind of queue\nthere are Internal External Empty"):
        found("Far")
    with pytest.raises(FilterError, match=r"no kind of queue\nthere are (?!.*Empty)"):
        narrowed(None, ["empty"], [], MESSAGE)


def test_names_are_found_by_any_case_and_alias() -> None:
    table = Table("a thing", [Property("Size", Kind.SIZE, "how large", alias=("length",))])
    assert table.get("SIZE") is table.get("Length") is table.properties[0]
    assert table.like("lenght") == "Size"
    assert table.like("zzz") == ""


def test_the_bounds_are_those_of_the_manual() -> None:
    text = MANUAL.read_text()
    assert f"{filter_words.LONGEST:,} characters" in text
    assert f"{filter_tree.MOST:,} comparisons" in text
    assert f"{filter_tree.DEEPEST} parentheses" in text
    assert all(one in string.printable for one in text)
