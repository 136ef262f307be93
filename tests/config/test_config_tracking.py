"""The options of the tracking log, and what is said of mistakes in them."""

from pathlib import Path

import pytest

from kmq.config import load
from kmq.errors import ConfigError
from kmq.log.tracking import folder_of, keeping_of

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = spool
{line}
[in : receiver]
listen = 127.0.0.1:2525
"""


def configured(tmp_path: Path, line: str) -> Path:
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION.format(line=line))
    return path


def test_without_a_word_it_is_kept_in_the_spool_for_a_month(tmp_path: Path) -> None:
    keeping = keeping_of(load(str(configured(tmp_path, ""))).kmq)
    assert keeping is not None
    assert keeping.folder == tmp_path / "spool" / "log"
    assert (keeping.file_size, keeping.total_size, keeping.age) == (10 << 20, 1 << 30, 30 * 86400.0)


@pytest.mark.parametrize(("text", "folder"), [("off", None), ("/var/log/kmq/", Path("/var/log/kmq"))])
def test_elsewhere_or_not_at_all(tmp_path: Path, text: str, folder: Path | None) -> None:
    assert folder_of(load(str(configured(tmp_path, f"tracking_log = {text}"))).kmq) == folder


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tracking_log = no", "'no' is neither spool nor off nor the path of a folder"),
        ("tracking_log = Spool", "spool"),
        ("tracking_log = log/kmq", "as /var/log/kmq"),
        ("tracking_file_size = 1K", "64K"),
        ("tracking_size = much", "tracking_size"),
        ("tracking_age = 5m", "1h"),
        ("tracking_subjects = perhaps", "yes"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(tmp_path: Path, line: str, said: str) -> None:
    path = configured(tmp_path, line)
    with pytest.raises(ConfigError) as wrong:
        load(str(path))
    assert f"{path}:4" in str(wrong.value) and said in str(wrong.value)
    assert wrong.value.exit_status == 78
