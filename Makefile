# make demo: train a teacher, and two seeds of its compressed student, of that one alone and of the teacher pruned, on digits.
# make test: run all tests but the long ones, which .ci/run adds by FLAGS. Its many processes do not compile the program anew each.
# make lint: check style, format and the direction of imports.
# What is installed is compiled where it is first imported: pip would compile all of it, which takes most of a minute.
# PYTHON: the Python 3.11 or later that .venv is made with.
PYTHON ?= python3

.venv/installed: requirements.txt
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('swapconv needs Python 3.11 or later, as in: make demo PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	PYTHONDONTWRITEBYTECODE= .venv/bin/python -c "import main"
	touch $@

.PHONY: demo test lint
demo: .venv/installed
	.venv/bin/python schedules/demo.py

test: .venv/installed
	PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -n auto --dist worksteal $(FLAGS)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python tests/imports.py
