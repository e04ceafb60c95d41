#!/usr/bin/env bash
# Runs all tests in the active environment, or in the .venv that tools/quickstart.sh makes; arguments go to pytest.
# One process per core, four at most, with one thread each; -n 0 runs everything in one process, for a debugger.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z "${VIRTUAL_ENV:-}" && "${CONDA_DEFAULT_ENV:-base}" == base && -x .venv/bin/python ]]; then
    export PATH="$PWD/.venv/bin:$PATH"
fi
if ! python -I -c 'import pytest, xdist, hypothesis, psutil, seaborn, transformers, mmmaskformer.registry'; then
    echo "Fix: pip install -c constraints.txt -e '.[lite,mim,test,demo]'" >&2
    exit 2
fi
# The oracle for panoptic quality. It requires numpy 1 but works with 2.
python -I -c 'import panopticapi' 2>/dev/null || python -m pip install -q --no-deps panopticapi-lite==0.2.0
# Idle threads that spin slow down everything else on the machine.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY-PASSIVE}"
cores="$(python -c 'import os; print(min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))')"
if [[ "$cores" -gt 1 ]]; then
    export OMP_NUM_THREADS="${OMP_NUM_THREADS-1}"
    exec python -m pytest -n "$cores" --dist loadfile "$@"
fi
exec python -m pytest "$@"
