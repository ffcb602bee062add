"""Remove what identifies a patient from a DICOM header."""

from importlib.metadata import version
from multiprocessing import current_process

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, generate_uid

_NO_DATE = "00010101"  # what `dicomanonymizer` writes for a date


def anonymize(dataset: Dataset) -> None:
    """Apply the Basic Application Level Confidentiality Profile of PS3.15 to a header, in place.

    Names, identifiers, dates and free text are removed or replaced, in sequences too; UIDs are replaced by new ones,
    the same for the same UID within a run; private elements are removed. Pixels are not cleaned: text in the picture
    stays, and `BurnedInAnnotation` is YES unless the input says NO.
    """
    from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, dictionary, initialize_actions

    def rules() -> dict:
        return initialize_actions("dicomfields_2026c")

    for item in _tree(dataset):  # `anonymize_dataset` leaves items of sequences alone
        for element in item:
            if element.VR == "UI":
                several = [element.value] if isinstance(element.value, str) else element.value or ()
                dictionary.update({uid: replaced(uid) for uid in several})
        anonymize_dataset(item, base_rules_gen=rules)
        for element in list(item):
            if element.VR in ("DA", "DT") and str(element.value).startswith(_NO_DATE):  # of year 1, no valid date
                item[element.tag].value = ""
    mark_anonymized(dataset)


def replaced(uid: str) -> UID:
    """The UID that takes the place of another, the same in all processes of a run; nobody else can derive it."""
    secret = current_process().authkey  # worker processes have it from their parent
    return generate_uid(entropy_srcs=[secret.hex(), uid])


def mark_anonymized(dataset: Dataset) -> None:
    """State the profile, and that the pixels were not cleaned."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"dicom-anonymizer {version('dicom-anonymizer')}; pixels not cleaned"
    dataset.DeidentificationMethodCodeSequence = [coded(codes.DCM.BasicApplicationConfidentialityProfile)]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    if dataset.get("BurnedInAnnotation") != "NO":
        dataset.BurnedInAnnotation = "YES"


def coded(code: Code) -> Dataset:
    """A code as an item of a sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _tree(dataset: Dataset) -> list[Dataset]:
    """The data set and every item of its sequences."""
    nested = [item for element in dataset if element.VR == "SQ" for item in element.value]
    return [dataset, *(inner for item in nested for inner in _tree(item))]
