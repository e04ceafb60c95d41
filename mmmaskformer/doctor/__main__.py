"""``python -m mmmaskformer.doctor``: prints the installed stack, what is wrong with it and how to repair it."""

from __future__ import annotations

import argparse
import platform
import sys

from mmmaskformer import __version__
from mmmaskformer.doctor.rules import Finding, diagnose
from mmmaskformer.doctor.stack import OPTIONAL, PROVIDERS, SHOWN, Stack, read_stack


def table(stack: Stack) -> str:
    """The stack as lines of name and version; what is missing shows a dash."""
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
    """Whether an absent distribution needs no line: another provides the same, it is not the usual one, or optional."""
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
    """The findings in words, each with its repair, and whether training can start."""
    lines = []
    for finding in findings:
        lines += [f'{finding.level.upper()}: {finding.problem}', f'    repair: {finding.repair}']
    errors = sum(finding.level == 'error' for finding in findings)
    lines.append(f'Training cannot start: {errors} to repair.' if errors else 'Training can start.')
    return '\n'.join(lines)


def check(time_limit: float) -> int:
    """Print everything.

    Args:
        time_limit: for the trial imports, in seconds.

    Returns:
        0 when training can start, 1 when not.
    """
    stack = read_stack(time_limit)
    findings = diagnose(stack)
    print(table(stack), report(findings), sep='\n\n')
    return int(any(finding.level == 'error' for finding in findings))


def main() -> int:
    """Print everything; returns 0 when training can start, 1 when not."""
    parser = argparse.ArgumentParser(prog='python -m mmmaskformer.doctor', description=__doc__)
    parser.add_argument(
        '--time-limit', type=float, default=300, metavar='SECONDS', help='for the trial imports (default: 300)'
    )
    return check(parser.parse_args().time_limit)


if __name__ == '__main__':
    sys.exit(main())
