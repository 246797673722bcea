#!/bin/sh
# Says at once everything this machine lacks for `make demo`, and the one line that mends it. Changes nothing.
#
#   sh .ci/preflight.sh            check everything; status 1 if anything is missing
#   sh .ci/preflight.sh --python   print the interpreter to build .venv with, checking only that
#
# PYTHON names an interpreter instead of the newest one found. OS_RELEASE names the file that tells the distribution.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
space_needed_mb=1024 # .venv takes 350 MB, the demo 100 MB, the caches of pip the rest (Linux x86-64, 2026-11)

# Prints the path of the interpreter behind a name if it can serve, else what is wrong with it. It is run, not only
# looked up: a pyenv shim is on the PATH even where no such version is active.
probe() {
    "$1" -I -c '
import sys
if sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info < (3, 15):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    print("%d.%d" % sys.version_info[:2])
    sys.exit(4)
print(sys.executable)
' </dev/null 2>/dev/null
}

# Sets `python` to a path, or leaves it empty and sets `no_pip` to the version that only lacks venv or ensurepip.
find_python() {
    python= no_pip=
    for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        found=$(probe "$name")
        case $? in
        0) python=$found && return ;;
        4) no_pip=${no_pip:-$found} ;;
        esac
    done
}

# apt, dnf or nothing, from the distribution's own description of itself.
installer() {
    [ -r "${OS_RELEASE:=/etc/os-release}" ] || return 0
    case " $(. "$OS_RELEASE" && echo "${ID:-} ${ID_LIKE:-}") " in
    *" debian "* | *" ubuntu "*) echo apt ;;
    *" fedora "* | *" rhel "*) echo dnf ;;
    esac
}

# What to install for CPython on a host that has none that serves. Distributions that are too old have none to offer.
python_packages() {
    case $1 in
    apt) if [ -n "$no_pip" ]; then echo "python$no_pip-venv"; else echo "python3.$(newest_of apt)-venv"; fi ;;
    dnf) if [ -n "$no_pip" ]; then echo "python$no_pip"; else echo "python3.$(newest_of dnf)"; fi ;;
    *) echo python3 ;;
    esac
}

# The newest minor version that the package lists of this host offer; 12 where they cannot be asked.
newest_of() {
    for minor in 14 13 12 11; do
        case $1 in
        apt) apt-cache show "python3.$minor-venv" >/dev/null 2>&1 ;;
        dnf) dnf -q -C list "python3.$minor" >/dev/null 2>&1 ;;
        esac && echo $minor && return
    done
    echo 12
}

missing=  # one line each, for the reader
packages= # what would mend it

lacks() { # what, and the packages that bring it
    missing="$missing  $1
"
    packages="$packages $2"
}

check_python() {
    find_python
    [ -z "$python" ] || return 0
    if [ -n "${PYTHON:-}" ]; then
        lacks "PYTHON=$PYTHON is not CPython 3.11 to 3.14 with venv and ensurepip" "$(python_packages "$tool")"
    elif [ -n "$no_pip" ]; then
        lacks "Python $no_pip has no venv or ensurepip" "$(python_packages "$tool")"
    else
        lacks "no CPython 3.11 to 3.14 (python3 is $(python3 -V 2>/dev/null || echo absent))" "$(python_packages "$tool")"
    fi
}

check_programs() {
    case $tool in dnf) compiler=gcc-c++ keygen=openssh ;; *) compiler=g++ keygen=openssh-client ;; esac
    command -v g++ >/dev/null 2>&1 || lacks "no C++ compiler (g++)" "$compiler"
    command -v ssh-keygen >/dev/null 2>&1 || lacks "no ssh-keygen" "$keygen"
}

check_space() {
    space_mb=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$space_mb" -ge "$space_needed_mb" ] ||
        lacks "only $space_mb MB free under $root, $space_needed_mb MB needed: make room, or clone elsewhere" ""
}

# The line to type. Nothing here runs it: what is installed on a host is its owner's decision.
mend() {
    set -- $packages
    [ $# -gt 0 ] || return 0
    aside=
    [ "$(id -u)" -ne 0 ] || command -v sudo >/dev/null 2>&1 || aside="   (you are root: leave out sudo)"
    case $tool in
    apt | dnf) echo "mend it with: sudo $tool install $*$aside" ;;
    *) echo "mend it by installing: CPython 3.11 to 3.14 with venv, g++ and ssh-keygen, whichever is listed" ;;
    esac
}

tool=$(installer)
check_python
if [ "${1:-}" != --python ]; then
    check_programs
    check_space
fi
if [ -n "$missing" ]; then
    printf 'this machine is not ready:\n%s' "$missing" >&2
    mend >&2
    exit 1
fi
[ "${1:-}" != --python ] || echo "$python"
