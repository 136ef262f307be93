"""Pictures that follow each other until the reader has seen enough."""

import io

from kmq.view.watch import watch
from tests.view.screens import terminal


class Enough:
    """Waits `rounds` times, then the reader presses Ctrl-C."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_on_a_pipe_pictures_follow_each_other() -> None:
    out, n = io.StringIO(), iter(range(9))
    watch(lambda _: [f"picture {next(n)}"], out, Enough(2))
    assert out.getvalue() == "picture 0\n\npicture 1\n\n"


def test_on_a_terminal_each_picture_covers_the_last_and_fits() -> None:
    with terminal(40, 5) as real:

        class Screen(io.StringIO):
            def isatty(self) -> bool:
                return True

            def fileno(self) -> int:
                return real.fileno()

        screen = Screen()
        watch(lambda page: [f"line {n} of {page.columns}" for n in range(100)], screen, Enough(2))
    drawn = screen.getvalue()
    assert drawn.startswith("\x1b[2J\x1b[H")
    pictures = drawn.removeprefix("\x1b[2J").split("\x1b[H")[1:]
    assert len(pictures) == 2
    for picture in pictures:
        lines = picture.replace("\x1b[K", "").split("\n")
        assert lines == [*(f"line {n} of 40" for n in range(4)), "\x1b[J"]
