"""Server rules as the file says them: a language of rows, and the mistakes in them with line and remedy."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.config import Settings, read, show
from kmq.config.rule_actions import EXAMPLES, VERBS, Action, Verb, action
from kmq.config.rule_conditions import COMPARATORS, MEANING, SUBJECTS, Comparator, Subject, condition
from kmq.config.rule_text import PLACEHOLDERS, Pattern
from kmq.errors import ConfigError

BASE = "[kmq]\nhostname = mx.example.org\n"


def settings(text: str) -> Settings:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx")


def complaint(text: str) -> list[str]:
    with pytest.raises(ConfigError) as told:
        settings(text)
    return str(told.value).splitlines()


RULE = """\
[big : rule]
apply = outgoing
condition =
    size over 20M
    ; a comment between
    header subject contain "in,voice", bill
    envelope sender is @Example.org, <>, "Bob"@example.net
    attachment is not *.exe, Rechnung ?.doc
    X-Never: exists   ; no condition
action =
    add header X-Big: costs $$5, ${size}
    notify admin@example.org, boss@example.org subject "Big ""${subject}"" mail" text "${from}\\nsent ${size}"
    stop
"""


def test_a_rule_is_rows() -> None:
    (rule,) = settings(RULE.replace("    X-Never: exists   ; no condition\n", "")).rules
    assert (rule.name, rule.apply, rule.match, rule.enabled) == ("big", "outgoing", "all", True)
    size, subject, sender, attachment = rule.condition
    assert (size.subject, size.comparator, size.limit) == (Subject.SIZE, Comparator.OVER, 20 << 20)
    assert (subject.name, subject.comparator) == ("subject", Comparator.CONTAINS)
    assert subject.patterns == (Pattern("in,voice"), Pattern("bill"))
    assert sender.patterns == (Pattern("*@example.org", True), Pattern(""), Pattern("Bob@example.net"))
    assert attachment.negative
    assert attachment.patterns == (Pattern("*.exe", True), Pattern("Rechnung ?.doc", True))
    add, notify, stop = rule.action
    assert (add.verb, add.name, add.text) == (Verb.ADD_HEADER, "X-Big", "costs $5, ${size}")
    assert notify.addresses == ("admin@example.org", "boss@example.org")
    assert (notify.subject, notify.text) == ('Big "${subject}" mail', "${from}\\nsent ${size}")
    assert stop == Action(Verb.STOP, "stop")


def test_every_mistake_has_the_line_of_its_row() -> None:
    assert complaint(RULE.replace("    stop", "    stpo")) == [
        "kmq.conf:11: [big : rule] condition: 'X-Never: exists': a condition begins with all mail, envelope sender,"
        " envelope recipient, header NAME, attachment, attachment type, size, spam score, attachment name, subject,"
        " from, to, cc",
        "kmq.conf:15: [big : rule] action: 'stpo': an action begins with add header, set header, remove header,"
        " add recipient, copy to, redirect to, reject, discard, hold, notify, stop; did you mean 'stop'?",
    ]


def test_placeholders_stay_and_references_are_filled_in() -> None:
    text = "[a : rule]\ncondition = all mail\naction = reject ${kmq:hostname} takes no ${subject}\n"
    (rule,) = settings(text).rules
    assert rule.action[0].text == "mx.example.org takes no ${subject}"
    (same,) = settings(text.replace("${subject}", "$${subject}")).rules
    assert same.action[0].text == rule.action[0].text
    (price,) = settings(text.replace("${subject}", "$5 ($$6)")).rules
    assert price.action[0].text == "mx.example.org takes no $5 ($6)"


def test_what_is_printed_gives_the_same_rules() -> None:
    one = settings(RULE.replace("    X-Never: exists   ; no condition\n", ""))
    again = read(show(one), "kmq.conf", "/somewhere/else", "mx")
    assert again.rules == one.rules
    assert settings("[rule]\nmatch = any\n").rules == ()


def test_rules_inherit_like_all_sections() -> None:
    text = "[base : rule]\napply = incoming\naction = hold\n[a : base]\ncondition = all mail\n[b : base]\n"
    text += "condition = size over 1M\n"
    assert [(one.name, one.apply, one.action[0].verb) for one in settings(text).rules] == [
        ("a", "incoming", Verb.HOLD),
        ("b", "incoming", Verb.HOLD),
    ]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("size bigger 20M", "behind size stands under, over: size over 20M"),
        ("size over", "a figure is missing: size over 20M"),
        ("size over big", "'big' is no size"),
        ("size is 5", "behind size stands under, over"),
        ("spam score over high", "'high' is no number of points"),
        ("siez over 5", "did you mean 'size'?"),
        ("sender is a@example.org", "write envelope sender for whose mail it is by the envelope, header sender"),
        ("recipient is a@example.org", "write envelope recipient, or to or cc"),
        (
            "envelope sender is bob",
            "'bob' is no address: write bob@example.org, *@example.org, or envelope sender cont",
        ),
        ('from is "*@example.org"', "leave the quotes out"),
        ("from is @exa_mple!.org", "is no domain name"),
        ("to is a@b@c", "is no mail address"),
        ("header", "the name of a header field is missing"),
        ("header Sübject is x", "is no name of a header field"),
        ("header subject", "behind header subject stands is, contains, matches, exists"),
        ("header subject contians x", "did you mean 'contains'?"),
        ("subject is", "a value is missing: header subject contains"),
        ("subject is #1", "a ; or # behind a blank begins a comment"),
        ("subject is a,", "a value is missing behind the last comma"),
        ("subject is a,,b", "a value is missing"),
        ('subject is "a', "the quotation has no end; a ; or # behind a blank begins a comment"),
        ('subject is "a" b', "a comma is missing behind the closing quote"),
        ("subject exists yes", "'yes' stands behind exists"),
        ("all mail from bob", "'from bob' stands behind all mail"),
        ("attachment over 5", "behind attachment stands is, contains, matches, exists"),
        ('attachment is "*.exe"', "in quotes * and ? stand for themselves"),
        ("subject matches (a", "is no regular expression: a ( has no ) behind it"),
    ],
)
def test_mistakes_in_conditions(row: str, text: str) -> None:
    (line,) = complaint(f"[a : rule]\ncondition =\n  size over 5\n  {row}\naction = hold\n")
    assert line.startswith("kmq.conf:6: [a : rule] condition: ")
    assert text in line


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("add header", "the name of a header field is missing: add header X-Big: yes"),
        ("add header X-Big yes", "a colon stands behind the name"),
        ("add header X-Big:", "a value is missing"),
        ("add header Bad Name: x", "'Bad Name' is no name of a header field: it has no blank"),
        ("set header Content-Type: text/plain", "Content-Type cannot be changed: it says how the text is to be read"),
        ("remove header Received", "Received cannot be changed: by these lines loops are found"),
        ("remove header X-Big: yes", "all fields of a name are removed"),
        ("add header X: ${sbject}", "'${sbject}' is no placeholder: there are ${subject},"),
        ("add header X: $${x", "is no placeholder"),
        ("copy to", "a value is missing: copy to audit@example.org"),
        ("copy to bob", "'bob' is no mail address"),
        ("redirct to a@example.org", "did you mean 'redirect'?"),
        ("reject", "a text is missing: reject We take no programs by mail."),
        (f"reject {'x' * 901}", "901 characters are too many"),
        ("discard it", "'it' stands behind discard"),
        ("notify", "a value is missing: notify admin@example.org"),
        ('notify a@example.org subjct "x"', "is no mail address"),
        ('notify a@example.org subject "x" text y', "behind the addresses stand subject"),
        ('notify a@example.org text "x" text "y"', "behind the addresses stand subject"),
    ],
)
def test_mistakes_in_actions(row: str, text: str) -> None:
    (line,) = complaint(f"[a : rule]\ncondition = all mail\naction =\n  {row}\n")
    assert line.startswith("kmq.conf:6: [a : rule] action: ") or "names no option" in line
    assert text in line or "names no option" in line


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("action = hold\n", "kmq.conf:3: [a : rule] condition is missing: write condition = all mail"),
        ("condition = all mail\n", "kmq.conf:3: [a : rule] action is missing: write action = hold"),
        (
            "condition = all mail\naction =\n  hold\n  discard\n",
            "kmq.conf:5: [a : rule] hold and discard exclude each other: a rule has one of them at most",
        ),
        (
            "condition = all mail\naction =\n  redirect to a@example.org\n  copy to a@example.org\n",
            "kmq.conf:5: [a : rule] a@example.org would get it twice",
        ),
        (
            "condition =\n  size over 5M\n  size under 1M\naction = hold\n",
            "kmq.conf:4: [a : rule] no size is over and under these at once",
        ),
    ],
)
def test_rows_that_do_not_go_together(rule: str, line: str) -> None:
    (told,) = complaint(f"[a : rule]\n{rule}")
    assert told.startswith(line)


@given(st.text("abz*?\"',<>@.;#${}()[]|\\ \t\u00e4:-+0", max_size=30), st.sampled_from(["", *SUBJECTS, *VERBS]))
def test_any_row_is_understood_or_refused_with_words(text: str, begin: str) -> None:
    for one in (condition, action):
        for row in (f"{begin} {text}", f"{begin} is {text}", f"{begin} X: {text}"):
            try:
                assert one(row.strip())
            except ValueError as wrong:
                assert str(wrong) and "\n" not in str(wrong)


def test_every_word_of_the_language_can_be_written() -> None:
    for phrase, (subject, _) in SUBJECTS.items():
        if subject is Subject.ALL:
            assert condition(phrase).subject is subject
            continue
        allowed, _example = MEANING[subject]
        for word, (comparator, negative) in COMPARATORS.items():
            value = "" if comparator is Comparator.EXISTS else "5" if subject in (Subject.SIZE,) else "5@example.org"
            value = "5" if comparator in (Comparator.UNDER, Comparator.OVER) else value
            row = f"{phrase}{' list-id' if phrase == 'header' else ''} {word} {value}".strip()
            if comparator not in allowed:
                with pytest.raises(ValueError, match="stands"):
                    condition(row)
            else:
                found = condition(row.upper() if value == "" else row)
                assert (found.subject, found.comparator, found.negative) == (subject, comparator, negative)


TREE = Path(__file__).resolve().parents[2]


def test_the_examples_of_documents_are_rules() -> None:
    sample = (TREE / "etc" / "kmq.conf").read_text().partition("; [large : rule]\n")[2]
    text = "".join(line.removeprefix("; ").removeprefix(";") + "\n" for line in sample.splitlines() if line[:1] == ";")
    (large,) = settings(f"[large : rule]\n{text}").rules
    assert [one.verb for one in large.action] == [Verb.NOTIFY, Verb.REJECT]
    page = (TREE / "man" / "kmq-rules.5").read_text()
    first = page.partition("[large : rule]\n")[2].partition(".Ed")[0]
    assert [one.name for one in settings(f"[large : rule]\n{first}").rules] == ["large", "fraud"]
    told = set(re.findall(r"\w+", page))
    for word in (*SUBJECTS, *(one.value for one in (*Comparator, *Verb)), *PLACEHOLDERS):
        assert set(word.split()) <= told, word


def test_every_example_in_a_complaint_is_right() -> None:
    for subject, (_, example) in MEANING.items():
        assert condition(example).subject is subject
    for verb, example in EXAMPLES.items():
        assert action(example).verb is verb
    assert set(VERBS.values()) == set(Verb)
    for name in PLACEHOLDERS:
        assert action(f"hold ${{{name}}}").text == f"${{{name}}}"
