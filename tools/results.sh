#!/usr/bin/env bash
# Trains and measures the models of docs/results.md: MaskFormer with three ways of matching and the two per-pixel
# baselines, at equal budget, with several seeds. Reads data/ and checkpoints/ and writes work_dirs/results, in the
# folder where it is started. Run it again after an interruption: it continues where it stopped.
#
#   bash tools/results.sh scenes     # synthetic scenes; created if they are missing
#   bash tools/results.sh camvid     # needs data/camvid and checkpoints/efficientnet_lite0.pth: see README.md
#
# SEEDS: of the runs of each row, default '0 1 2'. Further arguments go to `mmmaskformer sweep`: --print lists the
# training commands.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
family="${1:-}"
# Idle threads that spin slow down everything else on the machine.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY-PASSIVE}"
read -r -a seeds <<<"${SEEDS:-0 1 2}"

case "$family" in
    scenes)
        backbone=tiny run=1xb8-800_scenes classes=9
        options=(train_cfg.max_iters=500 train_cfg.val_interval=500 param_scheduler.0.end=501)
        python -m mmmaskformer scenes data/scenes --num-train 1500 --num-val 200
        ;;
    camvid)
        backbone=effnet-lite0 run=1xb6-200_camvid-128x160 classes=11
        options=()
        for needed in data/camvid/images data/camvid/annotations checkpoints/efficientnet_lite0.pth; do
            [[ -e "$needed" ]] || { echo "$needed: not found. Fix: $root/README.md, section CamVid" >&2; exit 2; }
        done
        ;;
    *)
        echo "found '$family', expected scenes or camvid: bash $0 scenes" >&2
        exit 2
        ;;
esac
shift

# config MODEL [SUFFIX]: the file of a row.
config() { echo "$root/configs/$family/$1_$backbone${2:-}_$run.py"; }

python -m mmmaskformer sweep "$(config maskformer)" --work-dir "work_dirs/results/$family" --seeds "${seeds[@]}" \
    --inference --metrics {semantic,general}/{mIoU,PQ_St,SQ_St,RQ_St} \
    --case 'MaskFormer, bipartite matching' \
    --case 'MaskFormer, bipartite matching, one query per class' queries="$classes" \
    --case 'MaskFormer, fixed matching' config="$(config maskformer _fixed-matching)" \
    --case 'MaskFormer, box matching' config="$(config maskformer _box-matching)" \
    --case 'PerPixelBaseline+' config="$(config per-pixel-baseline-plus)" \
    --case 'PerPixelBaseline' config="$(config per-pixel-baseline)" \
    ${options[@]+--cfg-options "${options[@]}"} "$@"
