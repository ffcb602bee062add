"""Remove what identifies a patient from a DICOM header."""

from importlib.metadata import version

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_NO_DATE = "00010101"  # what `dicomanonymizer` writes for a date


def anonymize(dataset: Dataset) -> None:
    """Apply the Basic Application Level Confidentiality Profile of PS3.15 to a header, in place.

    Names, identifiers, dates and free text are removed or replaced, in sequences too; UIDs are replaced by new ones,
    the same for the same UID within a run; private elements are removed. Pixels are not cleaned: text in the picture
    stays, and `BurnedInAnnotation` is YES unless the input says NO.
    """
    from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions

    def rules() -> dict:
        return initialize_actions("dicomfields_2026c")

    for item in _tree(dataset):  # `anonymize_dataset` leaves items of sequences alone
        anonymize_dataset(item, base_rules_gen=rules)
        for element in list(item):
            if element.VR in ("DA", "DT") and str(element.value).startswith(_NO_DATE):  # of year 1, no valid date
                item[element.tag].value = ""
    mark_anonymized(dataset)


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
