# make run    installs one backend (JAX; BACKEND=torch) and trains the default image classifier on real handwritten digits
# make test   installs all three backends and runs the whole matrix of tests on TensorFlow, JAX and torch
# make check  lint and the tests that the working tree's changes touch, on one backend
.PHONY: run test test-all check lint lock clean

PYTHON ?= python3
BACKEND ?= jax
EXTRAS = tensorflow,jax,torch,export,bench,postgres,test

run: .venv/run-$(BACKEND)
	.venv/bin/triptych train image-classification --backend $(BACKEND)

# What one backend needs and no more, at the versions of the lock.
.venv/run-%: requirements.lock pyproject.toml
	test -e .venv/ready || $(PYTHON) -m venv .venv
	test -e .venv/ready || .venv/bin/python -m pip install --quiet "pip>=25,<27"
	test -e .venv/ready || .venv/bin/python -m pip install --quiet --constraint requirements.lock --editable ".[$*]"
	touch $@

test: .venv/ready
	.venv/bin/python tests/matrix.py

# Every check of every app on every backend: an hour or more.
test-all: .venv/ready
	.venv/bin/python tests/matrix.py everything

check: .venv/ready
	.venv/bin/python tests/matrix.py changed

lint: .venv/ready
	.venv/bin/ruff check .

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet "pip>=25,<27"
	.venv/bin/python -m pip install --quiet -r requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/ready

# Written anew from the newest versions that pyproject.toml allows.
lock:
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	.cache/lock/bin/python -m pip freeze --all --exclude-editable | grep -v '^pip==' | sed 's/+cpu//' > requirements.lock

clean:
	rm -rf .venv .cache build *.egg-info
