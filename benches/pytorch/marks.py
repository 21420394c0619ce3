"""When a training read its losses, as pairs of steps and seconds, on either side."""

WARM_UP = 0.5
"""Seconds behind the first mark that do not count."""
WARM_UP_MARKS = 1


def steady(marks):
    """The marks of the steady state."""
    return [(step, at) for step, at in marks[WARM_UP_MARKS:] if at >= marks[0][1] + WARM_UP]


def lasts(marks):
    """Seconds from the first to the last."""
    return marks[-1][1] - marks[0][1] if len(marks) > 1 else 0.0


def pace(marks):
    """Steps a second in the steady state."""
    counted = steady(marks)
    return (counted[-1][0] - counted[0][0]) / lasts(counted)


def pace_between(marks, begun, ended):
    """Steps a second within a part of the time."""
    counted = [(step, at) for step, at in marks if begun <= at <= ended]
    return (counted[-1][0] - counted[0][0]) / lasts(counted)
