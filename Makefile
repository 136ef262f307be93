# make run      sets up .venv, then starts kmqd in the foreground with a configuration for trying it out
# make test     all checks and tests, in four processes (ARGS="tests/spool -x" for some); what fails there is named and run
#               once more, alone, and that counts
# make postfix  fetches smtp-source and smtp-sink into build/, for the tests and the benchmark that want a stranger
# make torture  100,000 messages under 300 kills, 200 power cuts under load, then the random runs, SECONDS long each (600);
#               as root; MESSAGES, KILLS and CUTS say otherwise
# make bench    kmq and Debian's Postfix side by side, as root: 4 KiB one by one, over kept connections, and while idle, in
#               20 minutes; ARGS="--rows all" takes 75; ARGS="--row drain --pairs 1", ARGS=--help; BENCH_PEERS=all
#               measures OpenSMTPD and Exim too
# make bench-queues  100,000 messages that wait, and what they cost the mail that flows (ARGS="--domains 1")
# make bench-million  1,000,000 messages that wait: memory, stalls, and how fast a start knows them (ARGS="--messages 100000")
# make bench-idle  what a kmqd costs that has nothing to do: processor, wakes, memory
# make clean    removes what the above made; the mail below spool/ stays
# make bench-phases  what backup, content filtering and antivirus cost, beside clamd alone (ARGS="--messages 20000")
# Debian's own, where it is new enough and has venv: it is faster than one that was built by hand without optimizations.
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
    echo /usr/bin/python3 || echo python3)
SECONDS ?= 600
MESSAGES ?= 100000
KILLS ?= 300
CUTS ?= 200
ARGS ?=
BIN = .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
.DEFAULT_GOAL = run
.PHONY: run test postfix torture bench bench-queues bench-million bench-idle bench-phases clean

run: .venv/for-run
	@$(BIN)/kmqd --try $(ARGS)

test: .venv/for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 4 --dist loadscope $(ARGS) || \
	    { echo "what failed beside others is judged alone:"; $(BIN)/pytest --last-failed --last-failed-no-failures none $(ARGS); }

postfix:
	@$(PYTHON) tests/postfix.py

torture: .venv/for-test postfix
	$(BIN)/python -m tests.torture --messages $(MESSAGES) --kills $(KILLS)
	$(BIN)/python -m tests.torture.cut --cuts $(CUTS)
	KMQ_TORTURE=$(SECONDS) $(BIN)/pytest -m torture --timeout=0 $(ARGS)

bench: .venv/for-test postfix
	$(BIN)/python -m bench $(ARGS)

bench-queues: .venv/for-test
	$(BIN)/python -m bench.queues $(ARGS)

bench-million: .venv/for-test
	$(BIN)/python -m bench.million $(ARGS)

bench-idle: .venv/for-test
	$(BIN)/python -m bench.daily $(ARGS)

bench-phases: .venv/for-test postfix
	$(BIN)/python -m bench.phases $(ARGS)

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .venv
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are made last: a set-up that was broken off is begun again.
.venv/for-run: .venv/bin/pip setup.cfg pyproject.toml
	$(INSTALL) --config-settings editable_mode=compat --editable .
	@touch $@

.venv/for-test: .venv/bin/pip setup.cfg pyproject.toml
	$(INSTALL) --config-settings editable_mode=compat --editable '.[test]'
	@touch $@ .venv/for-run

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "kmq needs Python 3.11 or later; name one: make PYTHON=/usr/bin/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || \
	    { echo "Debian keeps venv in a package of its own: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
