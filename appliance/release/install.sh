#!/bin/sh
# Installs this release of the training appliance, without a network. Read it before you run it; it is short.
#
# It cannot vouch for itself. So first, in this folder, with a `release.signers` that came to you another way and
# lies outside of it (a name in this folder is whatever the medium brought):
#
#   ssh-keygen -Y verify -f ../release.signers -I release -n release@appliance -s sha256sums.sig < sha256sums &&
#   sha256sum --check --strict --quiet sha256sums
#
# and only then
#
#   sh install.sh --signers ../release.signers [--prefix /opt/appliance] [--python python3.12] [--with-gpu]
#
# What it does, in this order. Until the end of 4, nothing that came with it is executed or parsed:
#   1  names everything that this machine lacks, at once, and changes nothing
#   2  copies the signed list, checks its signature
#   3  copies what the list names, once, and nothing else that may lie here
#   4  checks the hash of each copy; from here on only the copies are used
#   5  makes a Python environment at its final place, PREFIX/releases/VERSION-DIGEST; every package by its hash
#   6  records the files of the release, which each start of the appliance compares
#   7  switches PREFIX/current by one rename, and keeps the one before as PREFIX/previous (`appliance rollback`)
# Killed at any moment, PREFIX/current is the old release or the new one, whole; run it again.
# It ends with 0, or 2 usage, 5 space, 6 a changed file, 7 signature, 11 not for this machine, 13 a missing file,
# 16 another installation runs, 1 anything else.
set -eu
LC_ALL=C PIP_CONFIG_FILE=/dev/null
export LC_ALL PIP_CONFIG_FILE
umask 022

version=@VERSION@         # of this release
glibc_needed=@GLIBC@      # what the newest symbol in any of its libraries is from
space_needed_mb=@SPACE_MB@ # the copy and what is made of it

here=$(cd "$(dirname "$0")" && pwd -P)
prefix=/opt/appliance
python='' signers='' gpu=''

stop() { # exit code, what is wrong and what to do
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

usage() {
    stop 2 "$1; usage: sh install.sh --signers FILE [--prefix FOLDER] [--python PROGRAM] [--with-gpu]"
}

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --signers | --prefix | --python) [ $# -ge 2 ] || usage "$1 needs a value" ;;
        esac
        case $1 in
        --signers) signers=$2 && shift ;;
        --prefix) prefix=$2 && shift ;;
        --python) python=$2 && shift ;;
        --with-gpu) gpu=yes ;;
        *) usage "unknown argument $1" ;;
        esac
        shift
    done
    [ -f "$signers" ] || usage "--signers must name the file of release keys that came to you another way"
    case $(readlink -f "$signers") in
    "$here"/*) usage "--signers must lie outside of $here: a key that came with it proves nothing" ;;
    esac
    case $prefix in
    *[!A-Za-z0-9._/+-]*) usage "--prefix may hold letters, digits and . _ / + - only" ;;
    /*) ;;
    *) prefix=$(pwd -P)/$prefix ;;
    esac
}

# 1. What this machine lacks -------------------------------------------------------------------------------------

missing=''
code=0

lacks() { # exit code, what
    missing="$missing  $2
"
    [ "$code" -ne 0 ] || code=$1
}

# Prints the interpreter behind a name if it can serve. It is run, not only looked up. ensurepip is not needed.
probe() {
    "$1" -I -c '
import sys, venv
ok = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.maxsize > 1 << 32
print(sys.executable) if ok else sys.exit(1)' 2>/dev/null </dev/null
}

check_python() {
    found=''
    for name in ${python:-python3.13 python3.12 python3.11 python3}; do
        found=$(probe "$name") && break
    done
    [ -n "$found" ] || lacks 11 "${python:-CPython 3.11 to 3.13, 64 bits, with its module venv}: not found"
    python=$found
}

check_platform() {
    [ "$(uname -sm)" = "Linux x86_64" ] || lacks 11 "Linux on x86_64: this is $(uname -sm)"
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc='another libc'
    newest=$(printf '%s\n%s\n' "$glibc_needed" "${libc#glibc }" | sort -V | tail -n 1)
    case $libc in
    "glibc $newest") ;;
    *) lacks 11 "glibc $glibc_needed or newer: this is $libc" ;;
    esac
    for name in ssh-keygen sha256sum flock; do
        command -v "$name" >/dev/null || lacks 11 "the program $name"
    done
}

# Asks the file system by doing: options of mounts are named differently everywhere, and may be bound or overlaid.
check_folder() {
    at=$prefix
    while [ ! -d "$at" ]; do at=$(dirname "$at"); done
    free_mb=$(df -Pk "$at" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free_mb" -ge "$space_needed_mb" ] || lacks 5 "$space_needed_mb MB free in $at: there are $free_mb"
    if ! trial=$(mktemp -d "$at/.trial.XXXXXX" 2>/dev/null); then
        lacks 11 "a place to write: $at is mounted read-only (ro) or is not yours"
        return
    fi
    printf '#!/bin/sh\n' >"$trial/program"
    chmod 755 "$trial/program"
    "$trial/program" 2>/dev/null || lacks 11 "a place to run programs from: $at is mounted noexec"
    ln -s program "$trial/link" 2>/dev/null || lacks 11 "a file system with symbolic links: $at has none"
    rm -r "$trial"
}

check_machine() {
    check_platform
    check_python
    check_folder
    [ "$code" -eq 0 ] || stop "$code" "this machine lacks
${missing}mend that, then run it again; nothing was changed"
}

# 2 to 4. One copy of everything, and nothing of it is used before it was checked ---------------------------------

copy_one() { # name below this folder
    if [ -L "$here/$1" ] || [ ! -f "$here/$1" ]; then
        stop 13 "$1: expected a file, found none; copy the folder again"
    fi
    mkdir -p "$copy/$(dirname "$1")"
    cp -- "$here/$1" "$copy/$1"
}

copy_verified() {
    copy_one sha256sums
    copy_one sha256sums.sig
    ssh-keygen -Y verify -f "$signers" -I release -n release@appliance -s "$copy/sha256sums.sig" \
        <"$copy/sha256sums" >"$copy/said" 2>&1 ||
        stop 7 "sha256sums: expected the signature of a key in $signers, found another: $(tail -n 1 "$copy/said")"
    if grep -Eqv '^[0-9a-f]{64}  [A-Za-z0-9_][A-Za-z0-9._+/@-]*$' "$copy/sha256sums" ||
        grep -Fq -e .. -e // "$copy/sha256sums"; then
        stop 6 "sha256sums: expected lines of hash and plain name, found others"
    fi
    while read -r _ name; do copy_one "$name"; done <"$copy/sha256sums"
    changed=$(cd "$copy" && sha256sum --check --strict --quiet sha256sums 2>/dev/null) ||
        stop 6 "expected the files that were signed, found changed: $changed; nothing of them was run"
}

# 5. The environment ----------------------------------------------------------------------------------------------

# No venv with pip in it: Debian's python3 has no ensurepip, and pip's own wheel is a program.
install_packages() { # requirements
    pip=$(echo "$copy"/tools/pip-*.whl)/pip
    TMPDIR=$copy "$release/env/bin/python" -I "$pip" --isolated --disable-pip-version-check \
        install --quiet --no-input --no-cache-dir --no-index --no-deps --require-hashes --only-binary :all: \
        --find-links "$copy/wheels" --find-links "$copy/gpu" --requirement "$1"
}

build_release() {
    for old in "$prefix"/releases/*; do # what a killed installation left
        [ -e "$old/files.sha256" ] || rm -rf "$old"
    done
    mkdir -p "$release/bin"
    "$python" -I -m venv --without-pip "$release/env"
    install_packages "$copy/requirements.txt"
    if [ -n "$gpu" ]; then
        [ -f "$copy/gpu/requirements.txt" ] ||
            stop 13 "gpu: expected a folder of packages, found none; get the bundle that has it"
        install_packages "$copy/gpu/requirements.txt"
    fi
    printf '#!/bin/sh\nexec %s/env/bin/python -I -m appliance "$@"\n' "$release" >"$release/bin/appliance"
    chmod 755 "$release/bin/appliance"
    "$release/bin/appliance" version
    mkdir "$release/bundle"
    for kept in sha256sums sha256sums.sig release.json sbom.cdx.json provenance.json policy systemd cubins; do
        [ ! -e "$copy/$kept" ] || cp -R "$copy/$kept" "$release/bundle/$kept"
    done
}

# 6. What each start compares: every file by its hash, every link by its target. The list is written last.
record_files() {
    cd "$release"
    find . -type l -printf '%p -> %l\n' | sort >links
    find . -type f -print0 | sort -z | xargs -0 sha256sum >"$copy/files.sha256"
    sync -f "$prefix"
    mv "$copy/files.sha256" files.sha256
    cd "$here"
}

# 7. -----------------------------------------------------------------------------------------------------------------

point() { # link, to which release
    rm -f "$prefix/.$1.new"
    ln -s "releases/$2" "$prefix/.$1.new"
    mv -T "$prefix/.$1.new" "$prefix/$1"
}

switch_current() {
    before=$(readlink "$prefix/current") || before=''
    before=${before#releases/}
    if [ -n "$before" ] && [ "$before" != "$name" ]; then point previous "$before"; fi
    point current "$name"
    sync -f "$prefix"
}

parse_arguments "$@"
check_machine
mkdir -p "$prefix/releases"
exec 9>"$prefix/.lock"
flock -n 9 || stop 16 "another installation into $prefix runs: wait until it has ended"
copy=$prefix/.incoming
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' HUP INT TERM
rm -rf "$copy"
mkdir "$copy" "$copy/gpu"
copy_verified
name=$version-$(sha256sum <"$copy/sha256sums" | cut -c 1-12)
release=$prefix/releases/$name
if [ -e "$release/files.sha256" ]; then
    (cd "$release" && sha256sum --check --strict --quiet files.sha256) ||
        stop 6 "$release was changed since it was installed: remove that folder, then run this again"
else
    build_release
    record_files
fi
switch_current
echo "installed $name: $prefix/current/bin/appliance"
