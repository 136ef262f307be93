"""A child that dies before one of its system calls: what is on the disk is what a killed process leaves there."""

import os
from collections.abc import Callable, Iterable
from typing import Any

_DIED = 9


def dies_at(calls: int, names: Iterable[str], deed: Callable[[], object]) -> bool:
    """Does the deed in a child that dies before the call of this number, counted over functions of `os` with these
    names; False when it came to its end. A write that is its last one writes half."""
    pid = os.fork()
    if pid == 0:
        try:
            _count_down(calls, names)
            deed()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, _DIED), "the child did something else"
    return code == _DIED


def _count_down(left: int, names: Iterable[str]) -> None:
    def counted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(_DIED)
            if name == "write" and left == 0 and len(arguments[1]) > 1:
                return real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            return real(*arguments, **more)

        return call

    for name in names:
        setattr(os, name, counted(name))
