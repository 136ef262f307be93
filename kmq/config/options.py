"""How options are declared: a section is a frozen class of them, each with kind, default and meaning.

Promise:  a section is made by keywords; what has no default by hand must be given.
Callers:  `sections` and `connector`, which declare; `page`, `printed` and `reading` look at what was declared.
"""

from dataclasses import MISSING, FrozenInstanceError, dataclass, field
from typing import Any, NamedTuple, TypeVar, dataclass_transform, overload

from kmq.config.kinds import Kind

T = TypeVar("T")


class Option(NamedTuple):
    """One option as declared.

    default: its text. derived: it is made of other options, so the class has no default.
    restart: a change counts only when kmqd is started anew.
    """

    name: str
    kind: Kind[Any]
    default: str
    derived: bool
    doc: str
    restart: bool


@overload
def option(kind: Kind[T], *, default: str, doc: str, restart: bool = False) -> T: ...
@overload
def option(kind: Kind[T], *, derived: str, doc: str, restart: bool = False) -> T: ...
def option(kind: Kind[Any], *, doc: str, default: str = "", derived: str | None = None, restart: bool = False) -> Any:
    """Declares an option. derived: a default made of other options (or "", none), so that by hand it must be given."""
    if derived is not None:
        return field(metadata={"option": (kind, derived, True, doc, restart)})
    return field(default=kind.parse(default), metadata={"option": (kind, default, False, doc, restart)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def section(declared: type[T]) -> type[T]:
    """A class of options: frozen, slots, made by keywords. Two are equal when all their options are.

    What dataclass would write for each class anew, which takes milliseconds at each start, is the same for all here.
    """
    made = dataclass(init=False, slots=True, kw_only=True, eq=False, repr=False, match_args=False)(declared)
    made.__init__ = _begin  # type: ignore[method-assign, assignment]
    made.__setattr__ = _frozen  # type: ignore[method-assign]
    made.__delattr__ = _frozen  # type: ignore[method-assign]
    made.__reduce__ = _kept  # type: ignore[method-assign, assignment]
    made.__eq__ = _equal  # type: ignore[method-assign]
    made.__hash__ = _hash  # type: ignore[method-assign, assignment]
    made.__repr__ = _told  # type: ignore[method-assign]
    return made


def _begin(one: Any, **given: object) -> None:
    """TypeError for an option that there is not, and for one that must be given."""
    for name, declared in one.__dataclass_fields__.items():
        value = given.pop(name, declared.default)
        if value is MISSING:
            raise TypeError(f"{type(one).__name__} needs {name}")
        object.__setattr__(one, name, value)
    if given:
        raise TypeError(f"{type(one).__name__} has no {', '.join(given)}")


def _frozen(one: Any, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"{type(one).__name__}.{name} is what the configuration says")


def _kept(one: Any) -> tuple[object, ...]:
    """As it travels from kmqd to its processes (pickle)."""
    return _again, (type(one), dict(zip(one.__dataclass_fields__, _values(one), strict=True)))


def _again(kind: type[T], given: dict[str, object]) -> T:
    return kind(**given)


def _values(one: Any) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in one.__dataclass_fields__)


def _equal(one: Any, other: object) -> bool:
    return _values(one) == _values(other) if type(other) is type(one) else NotImplemented


def _hash(one: Any) -> int:
    return hash(_values(one))


def _told(one: Any) -> str:
    options = (f"{name}={getattr(one, name)!r}" for name in one.__dataclass_fields__)
    return f"{type(one).__name__}({', '.join(options)})"
