"""Regular expressions that take time in proportion to the text, whatever the pattern and whoever wrote the text.

What:     signs, `.`, `[a-z]`, `[^a-z]`, `\\d \\w \\s` and their opposites, `(...)`, `|`, `* + ? {2} {2,}`, `^`, `$`,
          and a backslash for signs that stand for themselves. There is nothing that would have to go back in the
          text: no references, no looking around. Where Python's `re` knows a pattern of this kind, both say the same.
Promise:  pure; all states in which a text may be are followed at once (Thompson), and steps that were made are
          remembered. Case does not count: the text is to be case-folded, the pattern is.
Errors:   ValueError, whose text says what is wrong with a pattern.
Callers:  config.rule_conditions, phases.rules_tests.
"""

from collections.abc import Callable
from typing import NamedTuple

#: States of a pattern; signs of a text that are looked at.
STATES, SIGNS = 200, 2000
#: Steps that are remembered for a pattern.
_STEPS = 4000
_DEPTH = 20

One = Callable[[str], bool]


class _State(NamedTuple):
    """What may follow: a sign, and the state behind it; or other states without any."""

    sign: One | None
    then: tuple[int, ...]
    anchor: str = ""


class Search:
    """Whether a pattern is somewhere in a text."""

    def __init__(self, pattern: str) -> None:
        self._states, self._first = _Reading(pattern).states()
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._begin = self._spread([self._first], begins=True)
        self._again = self._spread([self._first], begins=False)

    def __call__(self, text: str) -> bool:
        """text: case-folded; only its first SIGNS are looked at."""
        now = self._begin
        for sign in text[:SIGNS]:
            if _FOUND in now:
                return True
            now = self._step(now, sign)
        return _FOUND in now or (len(text) <= SIGNS and any(self._ends(one, not text) for one in now))

    def _step(self, now: frozenset[int], sign: str) -> frozenset[int]:
        after = self._steps.get((now, sign))
        if after is None:
            if len(self._steps) >= _STEPS:
                self._steps.clear()
            reached = [
                then
                for one in now
                if (test := self._states[one].sign) and test(sign)
                for then in self._states[one].then
            ]
            after = self._steps[now, sign] = self._spread(reached, begins=False) | self._again
        return after

    def _spread(self, states: list[int], begins: bool) -> frozenset[int]:
        """These states, and those that are reached from them without a sign."""
        found: set[int] = set()
        waiting = list(states)
        while waiting:
            one = waiting.pop()
            if one in found:
                continue
            found.add(one)
            state = self._states[one]
            if state.sign is None and (not state.anchor or (state.anchor == "^" and begins)):
                waiting += state.then
        return frozenset(found)

    def _ends(self, state: int, empty: bool) -> bool:
        """Whether nothing but the end of the text is missing."""
        if self._states[state].anchor != "$":
            return False
        waiting, seen = [state], set[int]()
        while waiting:
            one = waiting.pop()
            found = self._states[one]
            if one not in seen and found.sign is None and (empty or found.anchor != "^"):
                seen.add(one)
                waiting += found.then
        return _FOUND in seen


#: The state in which the whole pattern has been seen.
_FOUND = 0


class _Reading:
    """A pattern on its way to states. Each piece is made from its end: `then` is the state that follows it."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._made: list[_State] = [_State(None, ())]
        self._depth = self._copies = 0

    def states(self) -> tuple[list[_State], int]:
        either = self._alternatives()
        if self._at < len(self._text):
            raise ValueError("a ) has no ( ahead of it")
        first = either(_FOUND)
        return self._made, first

    def _add(self, sign: One | None, then: tuple[int, ...], anchor: str = "") -> int:
        if len(self._made) >= STATES:
            raise _too_large()
        self._made.append(_State(sign, then, anchor))
        return len(self._made) - 1

    # --- the pattern, from outside in; each answers with what makes its states ----------------------------------------

    def _alternatives(self) -> "Making":
        found = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            found.append(self._sequence())
        return found[0] if len(found) == 1 else lambda then: self._add(None, tuple(one(then) for one in found))

    def _sequence(self) -> "Making":
        found: list[Making] = []
        while self._peek() not in ("", "|", ")"):
            found.append(self._repeated(self._atom()))

        def made(then: int) -> int:
            for one in reversed(found):
                then = one(then)
            return then

        return made

    def _repeated(self, inner: "Making") -> "Making":
        bounds = self._bounds()
        if bounds is None:
            return inner
        if self._peek() == "?":
            self._at += 1  # as few as possible: whether there is a match is the same
        if self._bounds() is not None:
            raise ValueError("one repetition stands behind another: put the first one in parentheses")
        least, most = bounds

        def made(then: int) -> int:
            end = then
            if most is None:
                then = self._loop(inner, then)
            for _ in range(0 if most is None else most - least):
                then = self._add(None, (self._copy(inner, then), end))
            for _ in range(least):
                then = self._copy(inner, then)
            return then

        return made

    def _copy(self, inner: "Making", then: int) -> int:
        self._copies += 1
        if self._copies > 10 * STATES:
            raise _too_large()
        return inner(then)

    def _loop(self, inner: "Making", then: int) -> int:
        loop = self._add(None, ())
        self._made[loop] = _State(None, (self._copy(inner, loop), then))
        return loop

    def _bounds(self) -> tuple[int, int | None] | None:
        """How often what stands ahead is to be there; None when nothing is said of that."""
        sign = self._peek()
        if sign and sign in "*+?":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        end = self._text.find("}", self._at)
        if sign != "{" or end < 0:
            return None
        least, comma, most = self._text[self._at + 1 : end].partition(",")
        if not _number(least) or (most and not _number(most)):
            raise ValueError("a { begins a repetition as {2}, {2,} or {2,5}; write \\{ for the sign")
        self._at = end + 1
        bounds = int(least), int(most) if most else None if comma else int(least)
        if bounds[1] is not None and bounds[1] < bounds[0]:
            raise ValueError(f"{{{least},{most}}}: the second number is less than the first")
        return bounds

    def _atom(self) -> "Making":
        sign = self._next()
        match sign:
            case "(":
                return self._group()
            case "[":
                return self._one(self._choice())
            case ".":
                return self._one(lambda found: found != "\n")
            case "^" | "$":
                return lambda then: self._add(None, (then,), sign)
            case "*" | "+" | "?":
                raise ValueError(f"nothing stands ahead of the {sign}; write \\{sign} for the sign")
            case "\\":
                return self._one(self._escaped())
            case _:
                return self._literal(sign)

    def _one(self, test: One) -> "Making":
        return lambda then: self._add(test, (then,))

    def _literal(self, sign: str) -> "Making":
        """A sign that stands for itself; some are several when case does not count."""

        def made(then: int) -> int:
            for one in reversed(sign.casefold()):
                then = self._add(_equal(one), (then,))
            return then

        return made

    def _group(self) -> "Making":
        if self._text.startswith("?:", self._at):
            self._at += 2
        elif self._peek() == "?":
            raise ValueError("(? is not known here: groups are ( or (?: and nothing looks around; case never counts")
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError(f"parentheses stand more than {_DEPTH} deep")
        found = self._alternatives()
        if self._peek() != ")":
            raise ValueError("a ( has no ) behind it")
        self._at += 1
        self._depth -= 1
        return found

    # --- single signs -------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _escaped(self) -> One:
        if not self._peek():
            raise ValueError("nothing stands behind the last backslash")
        sign = self._next()
        test = _CLASSES.get(sign.lower())
        if test is not None:
            return test if sign.islower() else lambda found: not test(found)
        if sign.isalnum():
            raise ValueError(f"\\{sign} is not known here: there are \\d, \\w, \\s, [^0-9] and the like")
        return _equal(sign)

    def _choice(self) -> One:
        """What stands between brackets."""
        negative = self._peek() == "^"
        self._at += negative
        tests: list[One] = []
        while self._peek() != "]" or not tests:
            if not self._peek():
                raise ValueError("a [ has no ] behind it")
            tests.append(self._range())
        self._at += 1
        return lambda found: any(test(found) for test in tests) is not negative

    def _range(self) -> One:
        first = self._next()
        if first == "\\":
            return self._escaped()
        if self._peek() != "-" or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return _equal(first)
        self._at += 1
        last = self._next()
        begin, end = first.casefold(), last.casefold()
        if last == "\\" or end < begin:
            raise ValueError(f"{first}-{last} is no range of signs")
        return lambda found: begin <= found <= end


#: Makes the states of a piece, ahead of a state; -> the first one.
Making = Callable[[int], int]


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 5


def _too_large() -> ValueError:
    return ValueError(f"it is too large: repetitions count as often as they are meant, {STATES} signs at most")


def _equal(sign: str) -> One:
    folded = sign.casefold()
    return lambda found: found == folded


def _is_word(found: str) -> bool:
    return found.isalnum() or found == "_"


_CLASSES: dict[str, One] = {"d": str.isdecimal, "w": _is_word, "s": str.isspace}
