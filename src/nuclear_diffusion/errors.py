"""The one error that a user of the package is meant to see."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence: what is wrong and what to do."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError` with this `sentence` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)
