#!/usr/bin/env python
"""Install, check, test and train in new environments, one per combination of versions, and write the table.

    python tools/compatibility.py --list
    python tools/compatibility.py 'lite-py3.12-*'
    python tools/compatibility.py 'full-*' --mmcv-wheel mmcv-2.1.0-cp311-cp311-linux_x86_64.whl --mmcv-torch 2.13.0

Names are STACK-pyPYTHON-TORCH-numpyNUMPY; patterns select them. STACK is lite (mmcv-lite), full (full mmcv, from a
wheel that you have) or onedl (the maintained forks). TORCH is newest (the newest that pip finds), oldest (the oldest
for this Python and this numpy) or given (the version that the mmcv wheel was built for).

Each combination is installed from the last commit of this clone. It runs the doctor, 20 training iterations for each
host through the host's train.py, the same iterations interrupted after 10 and resumed, which must give the same
weights, and the core tests. After each step the results are written to docs/compatibility.json and to the table of
docs/compatibility.md. A combination with a complete row is run again only with --again; an interrupted one continues at
the step where it stopped. Each environment (up to 7 GB) is removed when it is finished; logs stay in --work.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from compatibility_steps import HOSTS, STEPS, Combination, Run, combinations, environment

from mmmaskformer.formats.whole_files import write_whole

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ('torch', 'numpy', 'mmcv-lite', 'mmcv', 'onedl-mmcv', 'mmengine', 'onedl-mmengine', 'mmsegmentation', 'mmdet')
TIME_LIMIT = 3600
TABLE = ('<!-- Written by tools/compatibility.py from here on. -->\n', '\n<!-- Up to here. -->')
_VERSIONS = """
import json, platform, sys
from importlib import metadata
found = {distribution.metadata["Name"].lower(): distribution.version for distribution in metadata.distributions()}
print(json.dumps({"python": platform.python_version()} | {name: found[name] for name in sys.argv[1:] if name in found}))
"""


def execute(run: Run, name: str) -> dict:
    """Run the commands of a step until one fails; the output goes to a log.

    Returns:
        ``passed``, ``seconds`` and ``last``, the last line that the step printed.
    """
    log = run.folder / f'{name.replace(" ", "_")}.log'
    began, passed, problem = time.monotonic(), True, ''
    with open(log, 'w') as output:
        try:
            for command, folder in STEPS[name](run):
                output.write(f'$ {" ".join(command)}\n')
                output.flush()
                subprocess.run(command, cwd=folder, env=environment(run), stdin=subprocess.DEVNULL, stdout=output,
                               stderr=subprocess.STDOUT, timeout=TIME_LIMIT, check=True)  # fmt: skip
        except subprocess.CalledProcessError as error:
            passed, problem = False, (error.stderr or '').strip()
        except subprocess.TimeoutExpired:
            passed, problem = False, f'not done after {TIME_LIMIT} s'
    lines = [*filter(str.strip, log.read_text(errors='replace').splitlines()), *problem.splitlines()[-1:]]
    if not passed:  # pip prints hints after the error
        lines = [line for line in lines if re.search('error|failed|not done', line, re.IGNORECASE)] or lines
    return dict(passed=passed, seconds=round(time.monotonic() - began), last=lines[-1].strip() if lines else '')


def try_out(combination: Combination, interpreter: str, args: argparse.Namespace) -> Iterator[dict]:
    """Run the remaining steps of a combination, and remove its environment.

    Yields:
        Its row of the table, after each step.
    """
    run = Run(combination, Path(args.work).resolve() / combination.name, args)
    state = run.folder / 'state.json'
    row = json.loads(state.read_text()) if state.is_file() else None
    if row is None or not Path(run.python).exists():
        row = prepare(run, interpreter)
    while not is_complete(row):
        name = next(name for name in STEPS if name not in row['steps'])
        print(f'{combination.name}: {name} …', flush=True)
        row['steps'][name] = execute(run, name)
        print('   ', row['steps'][name], flush=True)
        if name == 'install':
            command = [run.python, '-c', _VERSIONS, *SHOWN]
            row['versions'] = json.loads(subprocess.check_output(command, cwd=run.folder, env=environment(run)))
        write_whole(state, json.dumps(row, indent=1))
        yield row
    for name in ('environment', 'source', *(f'train_{host}' for host in HOSTS)):
        shutil.rmtree(run.folder / name, ignore_errors=True)


def is_complete(row: dict) -> bool:
    """Whether all steps of a row were run, or the first has failed."""
    steps = row['steps']
    return all(name in steps for name in STEPS) or ('install' in steps and not steps['install']['passed'])


def prepare(run: Run, interpreter: str) -> dict:
    """Make a folder with a clone of the last commit and an empty environment; return an empty row of the table."""
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(run.source)], check=True)
    commit = subprocess.check_output(['git', '-C', str(run.source), 'rev-parse', '--short=9', 'HEAD'], text=True)
    subprocess.run([interpreter, '-m', 'venv', str(run.folder / 'environment')], check=True)
    today = datetime.date.today().isoformat()
    return dict(name=run.combination.name, date=today, commit=commit.strip(), versions={}, steps={})


def find_python(version: str, given: list[str]) -> str | None:
    """An interpreter of this version: one of `given`, that of this script, one on the PATH, or one of pyenv."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
    found = [*given, sys.executable, shutil.which(f'python{version}')]
    for candidate in filter(None, [*found, *sorted(map(str, pyenv.glob(f'{version}.*/bin/python')))]):
        code = 'import sys; print(*sys.version_info[:2], sep=".")'
        done = subprocess.run([candidate, '-c', code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def table(rows: list[dict]) -> str:
    """The rows as Markdown, with the last lines of failures below."""
    names = ('mmcv-lite', 'mmcv', 'onedl-mmcv')
    head = ['stack', 'Python', 'torch', 'numpy', *STEPS, 'date', 'commit']
    lines, notes = [f'| {" | ".join(head)} |', '|---' * len(head) + '|'], []
    for row in sorted(rows, key=lambda row: row['name']):
        versions, cells = row['versions'], []
        mmcv = ', '.join(f'{name} {versions[name]}' for name in names if name in versions) or row['name'].split('-')[0]
        for step in STEPS:
            result = row['steps'].get(step)
            cells.append(
                'passed' if result and result['passed'] else '–' if result is None else f'failed [{len(notes) + 1}]'
            )
            if result and not result['passed']:
                notes.append(f'{len(notes) + 1}. {row["name"]}, {step}: `{result["last"].replace("`", chr(39))}`')
            elif result and step == 'core tests':
                cells[-1] = re.sub(r'=|in [\d.]+s.*', '', result['last']).strip()
        parts = [mmcv, *(versions.get(name, '–') for name in ('python', 'torch', 'numpy'))]
        lines.append(f'| {" | ".join([*parts, *cells, row["date"], row["commit"]])} |')
    return '\n'.join([*lines, *([''] if notes else []), *notes])


def read_rows(path: Path) -> dict[str, dict]:
    """The rows written so far, by name."""
    return {row['name']: row for row in json.loads(path.read_text())} if path.is_file() else {}


def write_report(path: Path, rows: list[dict]) -> None:
    """Replace the table between the two marks of the page."""
    page = path.read_text(encoding='utf-8')
    before, _, rest = page.partition(TABLE[0])
    _, _, after = rest.partition(TABLE[1])
    write_whole(path, f'{before}{TABLE[0]}\n{table(rows)}\n{TABLE[1]}{after}')


def parse_args(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('patterns', nargs='*', default=['*'], help='names of combinations; * matches any part')
    parser.add_argument('--list', action='store_true', help='print the names and exit')
    parser.add_argument('--again', action='store_true', help='also run combinations that already have a row')
    parser.add_argument('--work', default='work_dirs/compatibility', help='folder of environments, packages and logs')
    parser.add_argument('--python', action='append', default=[], metavar='FILE', help='an interpreter; may be repeated')
    parser.add_argument('--mmcv-wheel', metavar='FILE', help='a wheel of full mmcv')
    parser.add_argument('--mmcv-torch', metavar='VERSION', help='the torch that it was built for')
    parser.add_argument('--report', default=str(ROOT / 'docs/compatibility.md'), help='page with the table')
    args = parser.parse_args(arguments)
    if bool(args.mmcv_wheel) != bool(args.mmcv_torch):
        parser.error(
            '--mmcv-wheel and --mmcv-torch belong together: a wheel loads only with the torch it was built for'
        )
    if args.mmcv_wheel and not Path(args.mmcv_wheel).is_file():
        parser.error(f'--mmcv-wheel {args.mmcv_wheel}: no such file')
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    chosen = [one for one in combinations(args.mmcv_wheel) if any(fnmatch(one.name, p) for p in args.patterns)]
    if not chosen:
        print(f'no combination is called {args.patterns}. Fix: choose from those of --list', file=sys.stderr)
        return 2
    report, failed = Path(args.report), False
    results = report.with_suffix('.json')
    for combination in chosen:
        rows = read_rows(results)
        complete = combination.name in rows and is_complete(rows[combination.name])
        if args.list or (complete and not args.again):
            print(combination.name, '(has a row)' if complete else '')
            continue
        interpreter = find_python(combination.python, args.python)
        if interpreter is None:
            print(f'{combination.name}: no Python {combination.python} found. Fix: --python FILE', file=sys.stderr)
            failed = True
            continue
        for row in try_out(combination, interpreter, args):
            rows = read_rows(results) | {combination.name: row}  # read again: another process may have added one
            write_whole(results, json.dumps([rows[name] for name in sorted(rows)], indent=1) + '\n')
            write_report(report, list(rows.values()))
        failed |= not all(result['passed'] for result in row['steps'].values())
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
