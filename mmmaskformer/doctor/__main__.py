"""``python -m mmmaskformer.doctor``: prints the installed packages, their incompatibilities and how to repair them."""

from __future__ import annotations

import argparse
import platform
import sys

from mmmaskformer import __version__
from mmmaskformer.doctor.rules import Finding, diagnose
from mmmaskformer.doctor.stack import OPTIONAL, PROVIDERS, SHOWN, Stack, read_stack


def table(stack: Stack) -> str:
    """Format the installed packages as lines of name and version; a dash marks missing ones."""
    rows = [
        ('mmmaskformer', __version__),
        ('python', f'{".".join(map(str, stack.python))} on {platform.system()} {platform.machine()}'),
    ]
    for name in SHOWN:
        if name in stack.versions:
            rows.append((name, ' '.join(filter(None, (stack.versions[name], _remark(name, stack))))))
        elif not _has_twin(name, stack):
            rows.append((name, '-'))
    return '\n'.join(f'{name:24}{value}' for name, value in rows)


def _has_twin(name: str, stack: Stack) -> bool:
    """Whether an absent distribution needs no line: it is optional or unusual, or another one provides the same."""
    if name in OPTIONAL:
        return True
    return any(name in names and (name != names[0] or stack.providers(key)) for key, names in PROVIDERS.items())


def _remark(name: str, stack: Stack) -> str:
    if name == 'torch' and stack.torch_device:
        return f'({stack.torch_device})'
    if name in PROVIDERS['mmcv'] and name in stack.versions:
        return '(with compiled ops)' if stack.compiled_ops else '(no compiled ops; MaskFormer needs none)'
    return ''


def report(findings: list[Finding]) -> str:
    """Format the findings, each with its repair, and state whether training can start."""
    lines = []
    for finding in findings:
        lines += [f'{finding.level.upper()}: {finding.problem}', f'    repair: {finding.repair}']
    errors = sum(finding.level == 'error' for finding in findings)
    lines.append(f'Training cannot start: {errors} to repair.' if errors else 'Training can start.')
    return '\n'.join(lines)


def check(time_limit: float) -> int:
    """Print the report.

    Args:
        time_limit: limit of the trial imports, in seconds.

    Returns:
        0 if training can start, otherwise 1.
    """
    stack = read_stack(time_limit)
    findings = diagnose(stack)
    print(table(stack), report(findings), sep='\n\n')
    return int(any(finding.level == 'error' for finding in findings))


def main() -> int:
    """Print the report; return 0 if training can start, otherwise 1."""
    parser = argparse.ArgumentParser(prog='python -m mmmaskformer.doctor', description=__doc__)
    parser.add_argument(
        '--time-limit', type=float, default=300, metavar='SECONDS', help='limit of the trial imports (default: 300)'
    )
    try:
        return check(parser.parse_args().time_limit)
    except ValueError as error:
        parser.error(str(error))


if __name__ == '__main__':
    sys.exit(main())
