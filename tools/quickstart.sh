#!/usr/bin/env bash
# Sets up an environment, makes a small dataset, trains MaskFormer on it with mim, tests it and draws what it sees.
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
config="$root/configs/scenes/maskformer_tiny_1xb8-1200_scenes.py"
run="$folder/semantic"

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

started=$SECONDS
cd "$folder"
say 'scenes: 500 to train on, 80 held out'
python "$root/tools/make_scenes.py" data/scenes --num-train 500 --num-val 80
say 'training; the log shows the time left as "eta"'
python -W ignore -m mim train mmsegmentation "$config" --work-dir "$run" --resume
checkpoint="$(cat "$run/last_checkpoint")"
say 'test on the held-out scenes'
python -W ignore -m mim test mmsegmentation "$config" --checkpoint "$checkpoint" --work-dir "$run/test"
say 'pictures and training curve'
python "$root/tools/draw_predictions.py" "$config" "$checkpoint" --out "$folder/pictures" --num 8
python "$root/tools/plot_curve.py" "$run" --out "$folder/curve.png"
say "done in $((SECONDS - started)) s. Look at $folder/pictures/overview.png and $folder/curve.png"
