"""The exceptions that are shown to the user as a single line: what is wrong, where, and what to do."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StudyError(Exception):
    """A problem the user can solve; its message names the file or the key, and the remedy."""

    exit_code = 2  # of the command that it ends


class UnreachableError(StudyError):
    """A server that the work needs does not answer; it may do so again in a minute."""


class RefusalError(StudyError):
    """What was asked is against the study's own rules: nothing is broken, and nothing was changed."""

    exit_code = 3


class OutOfStepError(StudyError):
    """A check found that things which should agree do not."""

    exit_code = 1


@contextmanager
def errors_under(sections: Mapping[str, str]) -> Iterator[None]:
    """A block whose errors may open with the name of a parameter: `a: ...` becomes `section.a: ...`, and so does `a.b`.

    Args:
        sections: name of a parameter -> the section of params.yaml that it stands in.
    """
    try:
        yield
    except StudyError as error:
        name = str(error).partition(":")[0].partition(".")[0]
        if name not in sections:
            raise
        raise type(error)(f"{sections[name]}.{error}") from None
