#!/usr/bin/env bash
# Sets up an environment, makes a small dataset, trains MaskFormer on it with mim, semantic and then panoptic, tests both
# and draws what they see.
#
#   bash tools/quickstart.sh [FOLDER]      FOLDER for data and results, default work_dirs/quickstart
#
# An active virtual or conda environment (not conda's base) is used as it is; otherwise .venv is made. Run it again after
# an interruption: it goes on where it stopped. PYTHON: the interpreter .venv is made with, default python3.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="${1:-$root/work_dirs/quickstart}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
configs="$root/configs/scenes/maskformer_tiny_"

say() { printf '\n== %s\n' "$*"; }

"${PYTHON:-python3}" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))" ||
    { echo "Python 3.10 to 3.13 is needed, found $("${PYTHON:-python3}" -V). Fix: PYTHON=python3.11 bash $0" >&2; exit 2; }
if [[ -z "${VIRTUAL_ENV:-}" && "${CONDA_DEFAULT_ENV:-base}" == base ]]; then
    if [[ ! -x "$root/.venv/bin/python" ]]; then
        say "environment: $root/.venv"
        "${PYTHON:-python3}" -m venv "$root/.venv"
    fi
    export PATH="$root/.venv/bin:$PATH"
fi
if ! python -I -c 'import mmmaskformer, mmseg, mim, matplotlib, pytest' 2>/dev/null; then
    say 'packages (some gigabytes the first time)'
    # Python 3.10 gets the newest releases made for it: the pinned ones need 3.11.
    pins=(-c "$root/constraints.txt")
    python -c 'import sys; sys.exit(sys.version_info >= (3, 11))' && pins=()
    python -m pip install -q ${pins[@]+"${pins[@]}"} -e "$root[lite,mim,test,demo]"
fi
python -m mmmaskformer.doctor

# train_and_test NAME HOST CONFIG [CHECKPOINT]: train, test on the held-out scenes, draw pictures and the training curve.
# CHECKPOINT is where a run starts that has not begun yet.
train_and_test() {
    local run="$folder/$1" host="$2" config="$3" start=(--resume) checkpoint
    if [[ -n "${4:-}" && ! -e "$run/last_checkpoint" ]]; then start=(--cfg-options "load_from=$4"); fi
    say "$1 training; the log shows the time left as \"eta\""
    python -W ignore -m mim train "$host" "$config" --work-dir "$run" "${start[@]}"
    checkpoint="$(cat "$run/last_checkpoint")"
    say "$1 test on the held-out scenes"
    python -W ignore -m mim test "$host" "$config" --checkpoint "$checkpoint" --work-dir "$run/test"
    say "$1 pictures and training curve"
    python "$root/tools/draw_predictions.py" "$config" "$checkpoint" --out "$run/pictures" --num 8
    python "$root/tools/plot_curve.py" "$run" --out "$run/curve.png"
}

started=$SECONDS
cd "$folder"
say 'scenes: 1500 to train on, 200 held out'
python "$root/tools/make_scenes.py" data/scenes --num-train 1500 --num-val 200
train_and_test semantic mmsegmentation "${configs}1xb8-800_scenes.py"
# The panoptic model is the same network: it starts from the semantic one, which saves half of its training.
train_and_test panoptic mmdet "${configs}1xb4-2600_scenes-panoptic.py" "$(cat "$folder/semantic/last_checkpoint")"
say "done in $((SECONDS - started)) s. Look at pictures/overview.png and curve.png in $folder/semantic and $folder/panoptic"
