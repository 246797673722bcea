# Every target makes .venv by itself from the locks: nothing needs to be installed by hand first.
# PYTHON=/path/to/python3.13 chooses the interpreter; otherwise the newest of CPython 3.11 to 3.14 is taken.

.DEFAULT_GOAL := help
.PHONY: demo test check bundle bundle-test cubins sanitize-cuda devices bench bench-train bench-learn bench-sample bench-breach sanitize fuzz crash lock devices man reference clean help preflight

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?=
export PYTHON

PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCKED := requirements/build.txt requirements/dev.txt
KERNELS := kernels/cpu/CMakeLists.txt $(wildcard kernels/cpu/src/*)
FUZZ_SECONDS ?= 30
# Tests wait for disks and for processes more than they compute: one process more than there are cores.
TESTERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
# The one requirement of a package that is left out on purpose: docs/decisions/0016-tokenizers.md.
LEFT_OUT := tokenizers [0-9.]* requires huggingface-hub, which is not installed.

demo: preflight $(READY) ## the whole job once, in about three minutes: seal, train, export, verify
	@$(BIN)/python -I -m appliance.demo

test: $(READY) ## all tests; audit/ and policy/ must be covered to the last branch
	$(BIN)/python -m pytest -n $(TESTERS) --cov --cov-report=term-missing:skip-covered --cov-fail-under=100

check: $(READY) ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY) ## measurements beside other tools, as JSON
	@set -e; found=; for script in bench/*.py; do \
	  case $$script in bench/train.py|bench/learn.py|bench/sample.py|bench/gpu.py|bench/gpu_crypto.py|bench/breach.py) continue;; esac; \
	  [ -e "$$script" ] || continue; found=1; echo "# $$script" >&2; $(BIN)/python "$$script"; \
	done; [ -n "$$found" ] || echo "bench/ holds no measurement yet"

bench-train: $(READY) bench/.venv/.ready ## training steps beside PyTorch, into bench/results; half an hour, and quiet
	$(BIN)/python bench/train.py prepare
	$(BIN)/python bench/train.py rows
	$(BIN)/python bench/train.py gradients

bench-learn: $(READY) bench/.venv/.ready ## what is learnt in four minutes beside PyTorch; a quarter of an hour, and quiet
	$(BIN)/python bench/learn.py

bench-breach: $(READY) ## from a network that appears to keys that are gone, 200 times; three minutes, and quiet
	$(BIN)/python bench/breach.py

bench-sample: $(READY) bench/.venv/.ready ## tokens a second of sampling beside PyTorch
	$(BIN)/python bench/sample.py

bench/.venv/.ready: # PyTorch is no dependency of ours, and no lock names it
	"$$(sh .ci/preflight.sh --python)" -m venv bench/.venv
	bench/.venv/bin/python -m pip --disable-pip-version-check -q install torch==2.13.0 numpy
	@touch $@

sanitize: $(READY) ## the CPU kernels under the address and undefined-behaviour sanitizers
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh -ec 'cmake -S kernels/cpu -B build/sanitize -G Ninja -DKERNELS_SANITIZE=ON --log-level=WARNING \
	>/dev/null; cmake --build build/sanitize -- --quiet'
	KERNELS_LIBRARY=$(CURDIR)/build/sanitize/libkernels.so ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	$(BIN)/python -m pytest -q -p no:randomly --timeout=600 tests/kernels/cpu/test_ops.py tests/kernels/cpu/test_slopes.py

sanitize-cuda: $(READY) ## the CUDA kernels on the CPU under the address and undefined-behaviour sanitizers
	SHIM_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(g++ -print-file-name=libasan.so)" \
	$(BIN)/python -m pytest -q -p no:randomly --timeout=600 tests/kernels/cuda

cubins: $(READY) ## the CUDA kernels for every architecture, held against kernels/cubins.json; ARCH=sm_90 UPDATE=1 SIGN_KEY=…
	$(PIP) install --no-deps --require-hashes -r requirements/cubins.txt
	$(BIN)/python -m appliance.cubins $(ARCH:%=--arch %) $(if $(UPDATE),--update) $(if $(SIGN_KEY),--sign-key "$(SIGN_KEY)")

fuzz: $(READY) ## the log's readers under a fuzzer, FUZZ_SECONDS each (30)
	$(PIP) install --no-deps --require-hashes -r requirements/fuzz.txt
	@set -e; for name in $$($(BIN)/python -m tests.fuzz.drive --list); do \
	  echo "# $$name, $(FUZZ_SECONDS) s" >&2; \
	  $(BIN)/python -m tests.fuzz.drive $$name -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0; \
	done

crash: $(READY) ## a fault at every system call of the log and of bundles, and 400 power cuts; needs strace, and root for the cuts
	CRASH_EVERY_POINT=1 $(BIN)/python -m pytest tests/attacks/test_log_faults.py tests/attacks/test_log_power_cut.py \
	tests/attacks/test_bundle_crash.py

bundle: $(READY) ## the signed offline install bundle, into dist: RELEASE_KEY=file of an OpenSSH key; GPU=1 adds its packages
	$(BIN)/python -m appliance.release --key "$(or $(RELEASE_KEY),$(error make bundle RELEASE_KEY=~/.ssh/release))" $(if $(GPU),--with-gpu)

bundle-test: $(READY) ## make the install bundle twice, compare, install it without a network and run the demo from it
	@rm -rf build/bundle && mkdir -p build/bundle && ssh-keygen -q -t ed25519 -N '' -f build/bundle/key
	@for made in one two; do $(BIN)/python -m appliance.release --key build/bundle/key --out build/bundle/$$made; done
	INSTALL_BUNDLES=$(CURDIR)/build/bundle $(BIN)/python -m pytest -q --timeout=600 tests/processes/test_install_bundle.py

lock: $(READY) ## bring requirements/*.txt up to pyproject.toml
	$(PIP) install --no-deps --require-hashes -r requirements/lock.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" sh requirements/lock.sh

devices: $(READY) ## the extras for a TPM and a token, into the same environment; needs libtss2-dev
	$(PIP) install --no-deps --require-hashes -r requirements/tpm.txt -r requirements/pkcs11.txt

man: $(READY) ## the manual pages, into build/man
	@rm -rf build/man
	$(BIN)/python -I -m appliance manual --out build/man

reference: $(READY) ## docs/reference/commands.md, written out of the program
	@rm -f docs/reference/commands.md
	$(BIN)/python -I -m appliance manual --markdown --out docs/reference/commands.md

clean: ## remove everything that was built; the sources stay
	@if [ -d demo/home ]; then $(BIN)/python -I -m appliance --home demo/home shutdown 2>/dev/null || true; fi
	rm -rf $(VENV) demo build dist wheelhouse .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find appliance audit bench kernels policy tests -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '%-17s%s\n' "$$name" "$$text"; done

preflight:
	@sh .ci/preflight.sh

# Brought up to date when a lock, the project's settings or a source of the CPU kernels change, made anew when the interpreter does. The stamp is
# written last, so that an interrupted one is taken up again. --no-deps: a lock is complete, and pip would otherwise refuse
# a pinned package that another asks for with an extra (coverage[toml]) as soon as a newer one is published; `pip check`
# says if one is missing.
$(READY): $(LOCKED) pyproject.toml $(KERNELS)
	@python=$$(sh .ci/preflight.sh --python) || exit 1; \
	[ "$$($(BIN)/python -V 2>/dev/null)" = "$$("$$python" -V)" ] || rm -rf $(VENV); \
	echo "making $(VENV) with $$python (a minute or two, once)"; \
	"$$python" -m venv $(VENV)
	@$(PIP) install --no-deps --require-hashes $(LOCKED:%=-r %)
	@$(PIP) install --no-build-isolation --no-deps --no-index --editable .
	@! $(PIP) check | grep -vx -e 'No broken requirements found.' -e '$(LEFT_OUT)'
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh -ec 'cmake -S kernels/cpu -B build/kernels -G Ninja --log-level=WARNING >/dev/null; \
	cmake --build build/kernels -- --quiet'
	@touch $@
