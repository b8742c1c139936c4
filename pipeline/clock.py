"""Times as people read them."""


def duration(seconds: float, digits: int = 0) -> str:
    """`2 h 5 min`, `3 min 20 s`, and below a minute `12 s` with so many digits."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.{digits}f} s"
