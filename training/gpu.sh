#!/usr/bin/env bash
# A prior from random weights in nine minutes, on one GPU and the cores beside it: patients are rendered on the cores
# while the GPU trains, then the new and the shipped prior are compared on development patients. Weights and records
# come to $OUT: 8 files at most. Everything below can be set from outside, as in `SMALL=1 OUT=out training/gpu.sh`.
# SMALL=1 does the same in small on two cores without a GPU, in about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

SMALL=${SMALL:-0}
OUT=${OUT:-out}
PYTHON=${PYTHON:-python3}
cores=$(nproc)
if [[ $SMALL == 1 ]]; then
    export NUCLEAR_DIFFUSION_BESIDE_GPU=1 JAX_PLATFORMS=cpu # as if there were one
    : "${SECONDS_IN_ALL:=1800}" "${SECONDS_TO_EVALUATE:=600}" "${MINUTES:=0.01}" "${WIDTHS:=8}" "${BATCH:=1}"
    : "${PATIENTS:=2}" "${SIZE:=32}" "${SHARES:=0.01}" "${FRAMES:=3}" "${WORKERS:=1}" "${KINDS:=seen}"
else
    # before the first step: rendering, and what the shipped prior does to the patients that judge; after the last:
    # samples.png and the verdict; a minute each
    : "${SECONDS_IN_ALL:=525}" "${SECONDS_TO_EVALUATE:=110}" "${MINUTES:=4.75}" "${WIDTHS:=64 96 160 224}" "${BATCH:=16}"
    : "${PATIENTS:=1500}" "${SIZE:=256}" "${SHARES:=0.25 1}" "${FRAMES:=12}" "${WORKERS:=$((cores > 4 ? cores - 4 : 1))}"
    : "${KINDS:=seen unseen unseen-look unseen-view findings}"
fi

say() { echo "[$((SECONDS / 60)):$(printf %02d $((SECONDS % 60)))] $*"; }

mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
bring_back() {
    for file in prior.safetensors loss.csv loss.png samples.png log.json verdict.txt; do
        if [[ -f $work/new/$file ]]; then cp "$work/new/$file" "$OUT/"; fi
    done
    if [[ -f $work/development.md ]]; then cp "$work/development.md" "$OUT/"; fi
    rm -rf "$work"
}
trap bring_back EXIT # what there is comes back, whatever happens

exec > >(tee "$OUT/gpu.log") 2>&1

if ! "$PYTHON" -c 'import nuclear_diffusion, jax' 2>/dev/null; then
    say "installing"
    "$PYTHON" -m pip install --quiet -e '.[test,cuda]'
fi
# one thread for each of many processes; compiled programs and GPU memory are shared between those that evaluate
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONUNBUFFERED=1
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$work/compiled}" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5
say "$cores cores, $("$PYTHON" -c 'import jax; print(jax.devices())')"

say "training, $MINUTES minutes of steps"
read -ra widths <<<"$WIDTHS"
read -ra kinds <<<"$KINDS"
status=0
timeout --signal=INT --kill-after=40 $((SECONDS_IN_ALL - SECONDS_TO_EVALUATE - SECONDS)) \
    "$PYTHON" -m nuclear_diffusion train simulator -o "$work/new" --init none --widths "${widths[@]}" \
    --patients "$PATIENTS" --size "$SIZE" --batch "$BATCH" --minutes "$MINUTES" --steps 1000000 || status=$?
if [[ ! -f $work/new/prior.safetensors ]]; then
    say "no prior came of it (status $status)"
    exit 1
fi
say "trained (status $status)"

# few patients first, so that there is a table in any case; those that are measured are not measured again
for share in $SHARES; do
    left=$((SECONDS_IN_ALL - SECONDS))
    if ((left < 10)); then break; fi
    say "evaluating a share of $share of the development patients, $left s left"
    XLA_PYTHON_CLIENT_PREALLOCATE=false timeout --signal=INT --kill-after=5 "$left" \
        "$PYTHON" -m benchmarks development --priors echo "$work/new" --share "$share" --kinds "${kinds[@]}" \
        --frames "$FRAMES" --workers "$WORKERS" --output "$work" || say "stopped (status $?)"
done
say "done: $OUT"
[[ -f $work/development.md ]]
