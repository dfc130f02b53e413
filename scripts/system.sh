#!/usr/bin/env bash
# Checks what only the system can give. As root on Debian or Ubuntu, what is missing is installed; otherwise each missing
# thing is named with what to do about it, or what is done without it.
set -euo pipefail

missing=0

# have <apt packages> <command that succeeds when it is there>
have() {
    local packages=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $packages"
        # shellcheck disable=SC2086 # a list of packages
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages; } >/dev/null || true
    fi
    "$@" >/dev/null 2>&1
}

# want <what> <apt packages> <remedy> <command that succeeds when it is there>
want() {
    local what=$1 packages=$2 remedy=$3
    shift 3
    if have "$packages" "$@"; then return; fi
    echo "kasmina: $what is missing: $remedy" >&2
    missing=1
}

# like <what> <apt packages> <what is done without it> <command that succeeds when it is there>
like() {
    local what=$1 packages=$2 without=$3
    shift 3
    if have "$packages" "$@"; then return; fi
    echo "kasmina: $what is missing, $without" >&2
}

rust_is_new_enough() {
    local version
    version=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '1.89\n%s\n' "$version" | sort -V | head -n1)" = 1.89 ]
}

want "a C++ compiler" "g++" "install g++ or clang (Debian, Ubuntu: apt-get install g++)." \
    sh -c 'command -v c++ || command -v g++ || command -v clang++'
want "Python 3.10 or later" "python3" "install it (Debian, Ubuntu: apt-get install python3)." \
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'
want "the Python module venv" "python3-venv" "install it (Debian, Ubuntu: apt-get install python3-venv)." \
    python3 -c 'import ensurepip, venv'
want "Rust 1.89 or later" "rustup" "install it with rustup, then run 'rustup default stable'." \
    sh -c 'command -v cargo || { command -v rustup && rustup default stable; }'
like "PostgreSQL" "postgresql" "so the tests that need a server of it are skipped (Debian, Ubuntu: apt-get install postgresql)." \
    sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
if [ "$missing" = 0 ] && ! rust_is_new_enough; then
    echo "kasmina: $(cargo --version) is too old, Rust 1.89 or later is needed: run 'rustup update stable'." >&2
    missing=1
fi
exit "$missing"
