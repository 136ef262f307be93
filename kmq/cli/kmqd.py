"""kmqd: the daemon. In a terminal it says where it listens and how to watch it; kmqd(8).

What:     reads the configuration and becomes the supervisor, from which all other processes of kmqd are forked.
Promise:  what is wrong is one text on standard error and an exit status: 78 wrong configuration or spool, 75 not now
          (another kmqd is running), 2 wrong options.
On crash: see run.supervisor.
Callers:  people, systemd.
"""

import argparse
import sys

from kmq import __version__, log
from kmq.config import Settings, embedded, load
from kmq.config.embedded import PATH as EMBEDDED_PATH
from kmq.config.kinds import write_endpoint
from kmq.errors import ConfigError, KmqError


def main() -> int:
    """The program."""
    arguments = _parser().parse_args()
    try:
        settings = embedded() if arguments.trial else load(arguments.config)
        log.begin("kmqd", settings.kmq)
        if sys.stdout.isatty():
            print(welcome(settings), flush=True)
        from kmq.cli import child  # reads all modules: not for a configuration that is wrong
        from kmq.run import supervisor

        return supervisor.main(settings, child.live)
    except ConfigError as error:
        hint = "" if arguments.config or arguments.trial else "\nkmqd --try needs no configuration: man kmqd"
        print(f"kmqd: {error}{hint}", file=sys.stderr)
        return error.exit_status
    except KmqError as error:
        print(f"kmqd: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    finally:
        log.flush()


def welcome(settings: Settings) -> str:
    """What a person who started kmqd by hand wants to know."""
    where = [write_endpoint(host, port) for section in settings.receivers for host, port in section.listen]
    given = "" if settings.path == EMBEDDED_PATH else f" -c {settings.path}"
    return "\n".join(
        [
            f"kmqd {__version__}",
            f"  SMTP on   {', '.join(where)}",
            f"  spool     {settings.kmq.spool}",
            f"  watch     kmq{given} mailq --watch    kmq{given} processes --watch    kmq{given} queues",
            "  stop      Ctrl-C",
            "",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kmqd", description="The kmq mail transfer agent; see kmqd(8).")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-c", dest="config", metavar="FILE", help="the configuration (else $KMQ_CONF, then /etc/kmq/kmq.conf)"
    )
    which.add_argument(
        "--try", dest="trial", action="store_true", help="no file: listen on 127.0.0.1:2525, keep all in ./spool"
    )
    parser.add_argument("--version", action="version", version=f"kmqd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
