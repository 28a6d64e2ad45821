"""A user's mistake ends with one clear message and exit code 2, without a traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from adiabatic_ray.object_stores import StorageError
from adiabatic_ray.redaction import without_credentials

from .environment import PlainConsole

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def user_errors(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Wrap a command: ValueError and OSError (the kinds this project raises for users) are printed, not traced.

    Ctrl-C says that the same command continues, and exits with 130.
    """

    @functools.wraps(command)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt:
            _say("interrupted; finished trials are kept, and the same command continues")
            raise typer.Exit(130) from None
        except StorageError as error:
            _say(f"error: {error}. Results that were finished are kept; the same command continues")
            raise typer.Exit(2) from None
        except OSError as error:
            _say(
                f"error: files must be readable and folders writable, got {error}; free the disk, mend the rights, or "
                "give another path. Results that were finished are kept; the same command continues"
            )
            raise typer.Exit(2) from None
        except ValueError as error:
            _say(f"error: {error}")
            raise typer.Exit(2) from None

    return wrapped


def _say(text: str) -> None:
    text = without_credentials(text)
    PlainConsole(file=sys.stderr).print(text, style="red", highlight=False, soft_wrap=True)
