"""The clips in a folder, and their patients."""

import re

from nuclear_diffusion.io.formats import Frames, Source, find_clips

_PATIENT = re.compile(r"patient[-_ ]?\d+", re.IGNORECASE)


def patient_of(clip: str) -> str:
    """The patient of a clip, from its name: `patient-3` for `patient-3-...`; any other name is its own patient."""
    match = _PATIENT.match(clip)
    return match.group() if match else clip


__all__ = ["Frames", "Source", "find_clips", "patient_of"]
