#!/bin/sh
# Writes every lock in requirements/ from pyproject.toml. Run by `make lock`, which puts uv on the PATH.
#
# Pins that still satisfy pyproject.toml stay as they are; delete a lock first to have all of its pins renewed.
#
# Universal: one file for CPython 3.11 to 3.14 and every platform, with markers where they differ. One version of a
# package for all of them where one exists ("fewest"), so that what is tested on one Python is what runs on another.
# The extras are held to dev.txt, so that any of them installs beside it. No address of an index is written: where
# packages come from is the installing machine's setting, the hashes say which ones they must be.
set -eu
cd "$(dirname "$0")/.."

lock() { # name, then what to resolve
    name=$1
    shift
    printf 'locking requirements/%s.txt\n' "$name"
    uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        "$@" --output-file "requirements/$name.txt"
}

lock run pyproject.toml
lock dev pyproject.toml --extra dev --constraints requirements/run.txt
for extra in gpu mpi tpm pkcs11 report; do
    lock "$extra" pyproject.toml --extra "$extra" --constraints requirements/dev.txt
done
lock build --group build --constraints requirements/dev.txt
lock lock --group lock
lock fuzz --group fuzz
lock cubins --group cubins
lock pip --group pip
