#!/usr/bin/env bash
# Sets up an environment, makes a small dataset, trains MaskFormer on it with mim, semantic and then panoptic, tests both
# and draws predictions.
#
#   bash tools/quickstart.sh [FOLDER]
#
# Without FOLDER, data are written to data/scenes and results to work_dirs/quickstart in the clone; with it to
# FOLDER/data/scenes and FOLDER/results. Run it again after an interruption: it continues where it stopped. The complete
# output of each step is in the folder logs of the results.
#
# An active virtual or conda environment (not conda's base) is used; otherwise .venv is made. A torch that is already
# installed there is kept. For a CPU build of torch, a tenth of the download:
#   python3 -m venv .venv && . .venv/bin/activate
#   pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
#   bash tools/quickstart.sh
#
# PYTHON: the interpreter of .venv, default python3. QUICKSTART_SHARE: an integer n trains on a share 1/n of the data in
# 1/n of the steps, to test the script itself; the scores are then those of an untrained model.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if (($#)); then
    mkdir -p "$1"
    cd "$1"
    results=results
else
    cd "$root"
    results=work_dirs/quickstart
fi
share="${QUICKSTART_SHARE:-1}"
configs="$root/configs/scenes/maskformer_tiny_1xb"

say() { printf '\n== %s\n' "$*"; }

# logged NAME [OPTION] COMMAND…: run a command with its output in a file and its progress on the terminal.
logged() {
    local log="$results/logs/$1.log"
    shift
    python "$root/tools/quickstart/progress.py" "$log" "$@"
}

"${PYTHON:-python3}" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" ||
    { echo "Python 3.10 to 3.13 is needed, found $("${PYTHON:-python3}" -V). Fix: PYTHON=python3.11 bash $0" >&2; exit 2; }
if [[ -z "${VIRTUAL_ENV:-}" && "${CONDA_DEFAULT_ENV:-base}" == base ]]; then
    if [[ ! -x "$root/.venv/bin/python" ]]; then
        say "environment: $root/.venv"
        "${PYTHON:-python3}" -m venv "$root/.venv"
        # the first pip whose progress can be read
        "$root/.venv/bin/python" -m pip install -q 'pip>=24.1' 2>/dev/null || true
    fi
    export PATH="$root/.venv/bin:$PATH"
fi

# Install the versions of constraints.txt, but keep an installed torch. Python 3.10 gets the newest releases for it: the
# pinned ones need 3.11.
install_packages() {
    local megabytes=3300 pins="$results/logs/constraints.txt" kept options=()
    mkdir -p "$results/logs"
    kept="$(python -c '
from importlib import metadata
for name in ("torch", "torchvision"):
    try:
        print(f"{name}=={metadata.version(name)}")
    except metadata.PackageNotFoundError:
        pass')"
    if python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        if [[ -n "$kept" ]]; then grep -vE '^torch(vision)?==' "$root/constraints.txt"; else cat "$root/constraints.txt"; fi
    fi >"$pins"
    if [[ -n "$kept" ]]; then
        echo "$kept" >>"$pins"
        megabytes=400
        say "packages: about $megabytes MB are downloaded once; kept: ${kept//$'\n'/ }"
    else
        say "packages: about $megabytes MB are downloaded once, mostly torch; the head of this script says how to use less"
    fi
    if python -m pip install --help | grep -q 'raw'; then options=(--progress-bar raw); fi
    logged packages --download "$megabytes" -- python -m pip install ${options[@]+"${options[@]}"} \
        -c "$pins" -e "$root[lite,mim,test,demo]"
}

if ! python -I -c 'import mmmaskformer, mmseg, mim, matplotlib, pytest' 2>/dev/null; then install_packages; fi
mkdir -p "$results/logs"
python -m mmmaskformer.doctor >"$results/logs/doctor.log" || { cat "$results/logs/doctor.log" >&2; exit 1; }
tail -n 1 "$results/logs/doctor.log"

# torch warns about more loader processes than cores. nproc follows OMP_NUM_THREADS, torch does not.
options=()
if (($(env -u OMP_NUM_THREADS nproc) < 2)); then
    options=(train_dataloader.num_workers=1 val_dataloader.num_workers=1 test_dataloader.num_workers=1)
fi

# train_and_test NAME HOST CONFIG STEPS [CHECKPOINT]: train, test on the held-out scenes, draw pictures and the curve.
# A new run starts from CHECKPOINT.
train_and_test() {
    local run="$results/$1" host="$2" config="$3" steps="$4" start=(--resume) train=("${options[@]+"${options[@]}"}") checkpoint
    if ((share > 1)); then train+=("train_cfg.max_iters=$((steps / share))" "train_cfg.val_interval=$((steps / share))"); fi
    if [[ -n "${5:-}" && ! -e "$run/last_checkpoint" ]]; then start=() train+=("load_from=$5"); fi
    say "$1 training"
    logged "$1-train" -- python -m mim train "$host" "$config" --work-dir "$run" ${start[@]+"${start[@]}"} \
        ${train[@]+--cfg-options "${train[@]}"}
    checkpoint="$(cat "$run/last_checkpoint")"
    say "$1 test on the held-out scenes"
    logged "$1-test" -- python -m mim test "$host" "$config" --checkpoint "$checkpoint" --work-dir "$run/test" \
        ${options[@]+--cfg-options "${options[@]}"}
    logged "$1-pictures" -- python "$root/tools/draw_predictions.py" "$config" "$checkpoint" --out "$run/pictures" --num 8
    logged "$1-pictures" -- python "$root/tools/plot_curve.py" "$run" --out "$run/curve.png"
}

started=$SECONDS
say "scenes: $((1500 / share)) to train on, $((200 / share)) held out, in $PWD/data/scenes"
python "$root/tools/make_scenes.py" data/scenes --num-train $((1500 / share)) --num-val $((200 / share))
train_and_test semantic mmsegmentation "${configs}8-800_scenes.py" 800
# The panoptic model is the same network: it starts from the semantic one, which saves half of its training.
train_and_test panoptic mmdet "${configs}4-2600_scenes-panoptic.py" 2600 "$(cat "$results/semantic/last_checkpoint")"
say "done, in $PWD"
python "$root/tools/quickstart/summary.py" "$results" $((SECONDS - started))
