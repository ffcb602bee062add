"""The error raised for input that cannot be used."""


class InputError(ValueError):
    """Unusable input; the message says in one sentence what is wrong and what to do."""


def require(condition: bool, sentence: str) -> None:
    """Raise `InputError(sentence)` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)
