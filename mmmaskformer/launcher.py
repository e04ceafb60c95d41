"""What mim's own process prints when the script that it runs has failed."""

import subprocess
import sys
from pathlib import Path


def end_with_the_message_of_the_script() -> None:
    """Leave out the traceback of a launcher whose script has printed one already.

    `mim train`, `mim test` and `mim run` start a script of the host in a process of its own and raise
    CalledProcessError when it fails. That traceback would follow the script's error message, which says what is wrong,
    and contains nothing but the command. The exit status stays 1, and any other exception is printed as before.
    """
    print_exception = sys.excepthook

    def hook(kind, error, traceback) -> None:
        if not has_explained_itself(error):
            print_exception(kind, error, traceback)

    sys.excepthook = hook


def has_explained_itself(error: BaseException) -> bool:
    """Whether an exception only reports that a script of an OpenMMLab package has failed with a message of its own.

    Args:
        error: what ended the launcher.

    Returns:
        False for a script that was killed by a signal, which prints nothing, and for other commands such as srun.
    """
    if not isinstance(error, subprocess.CalledProcessError) or error.returncode <= 0:
        return False
    command = error.cmd if isinstance(error.cmd, list) else []
    return len(command) > 1 and command[0] == sys.executable and '.mim' in Path(command[1]).parts
