"""The one exception that is shown to the user as a single line: what is wrong, where, and what to do."""


class StudyError(Exception):
    """A problem the user can solve; its message names the file or the key, and the remedy."""
