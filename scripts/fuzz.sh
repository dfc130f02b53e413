#!/usr/bin/env bash
# Fuzzes the decoder and the C ABI, side by side, and says what was executed and found.
#
#   scripts/fuzz.sh [--seconds 600] [--sanitizer none] [target ...]
#
# What a target finds lies in fuzz/artifacts/<target>; what it learnt stays in fuzz/corpus/<target>. The stable compiler
# does, told by RUSTC_BOOTSTRAP to take the flags of a nightly one.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=600
sanitizer=none
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=$2 && shift ;;
    --sanitizer) sanitizer=$2 && shift ;;
    decoder | c_abi) targets+=("$1") ;;
    *) echo "fuzz: there is no argument $1; there are --seconds, --sanitizer, decoder and c_abi" >&2 && exit 2 ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || targets=(decoder c_abi)

version=0.13.2
if [ ! -x build/cargo-fuzz/bin/cargo-fuzz ]; then
    echo "installing cargo-fuzz $version into build/cargo-fuzz"
    cargo install --quiet --locked --root build/cargo-fuzz --version "$version" cargo-fuzz
fi
export PATH="$PWD/build/cargo-fuzz/bin:$PATH" RUSTC_BOOTSTRAP=1 KASMINA_CACHE_DIR=off
cargo fuzz build --sanitizer "$sanitizer"

mkdir -p build/fuzz
declare -A running
for target in "${targets[@]}"; do
    folders=("fuzz/corpus/$target" "fuzz/seeds/$target")
    options=(-max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=4096 -print_final_stats=1)
    if [ "$target" = decoder ]; then
        folders+=(tests/data/hostile)
        options+=(-dict=fuzz/decoder.dict)
    fi
    mkdir -p "${folders[0]}"
    cargo fuzz run --sanitizer "$sanitizer" "$target" "${folders[@]}" -- "${options[@]}" >"build/fuzz/$target.log" 2>&1 &
    running[$target]=$!
done

found=0
for target in "${targets[@]}"; do
    log=build/fuzz/$target.log
    verdict="nothing found"
    if ! wait "${running[$target]}"; then
        verdict="FAILED: $(grep -a -m1 -E "panicked at|memory allocation|ERROR: |SUMMARY: " "$log" || tail -n1 "$log"); see $log and fuzz/artifacts/$target"
        found=1
    fi
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n1)
    echo "$target: ${executed:-no} executions, ${covered:-no coverage}, $verdict"
done
exit "$found"
