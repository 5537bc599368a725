"""Errors that say what, where, the value and the remedy, in one line.

Ray pickles every exception that crosses a process, so each class takes plain strings only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class SynRayError(Exception):
    """Anything this project reports on purpose. The command line exits with `exit_code`."""

    exit_code = 1


class UserError(SynRayError, ValueError):
    """The user's input is wrong; the message is one line with the remedy."""

    exit_code = 2


class ShardError(SynRayError):
    """A shard is cut off, damaged or not what its manifest says."""


class GenerationError(SynRayError):
    """A generator cannot start, or keeps making unusable images."""


class TrainingError(SynRayError):
    """A training run failed: a loss that is not finite, or workers that do not start."""


class FitError(SynRayError):
    """A law cannot be fitted to the points given."""


class MissingResultError(SynRayError):
    """A number was asked for that has not been measured."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """The suffix that helps with a misspelt name.

    Returns:
        `"; did you mean 'x'?"` for a near miss, otherwise `"; choose from a, b, c"`.
    """
    known = sorted(choices)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; choose from {', '.join(known)}" if known else ""


def root_cause(error: BaseException, kind: type[SynRayError], what: str) -> SynRayError:
    """Our own error out of those that a distributed framework wrapped around it.

    Args:
        error: what was caught.
        kind: the class of the answer where no error of ours is inside.
        what: words put before the framework's own last line in that case.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, SynRayError) and type(seen).__module__ == __name__:
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    told = _told(str(error))
    if told is not None:
        return told
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return kind(f"{what}: {lines[-1] if lines else type(error).__name__}")


def _told(traceback: str) -> SynRayError | None:
    """The last error of ours in a traceback's text: a pickled exception has lost what caused it, its text has not."""
    kinds: dict[str, type[SynRayError]] = {kind.__name__: kind for kind in SynRayError.__subclasses__()}
    found = re.findall(rf"^{re.escape(__name__)}\.(\w+): (.+)$", traceback, re.MULTILINE)
    return next((kinds[name](message) for name, message in reversed(found) if name in kinds), None)
