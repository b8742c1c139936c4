"""DICOM files made up on the spot; whoever imports this needs pydicom."""

from io import BytesIO

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)  # each value of 8 bits once


def dataset(pixels: np.ndarray, kind: str = "MONOCHROME2", bits: int = 0, **elements: object) -> Dataset:
    """A secondary capture of the pixels as they are; `elements` are set by their keyword."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid(entropy_srcs=["made"])
    made.PatientName, made.PatientID = "Doe^Jane", "0815"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = kind
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def saved(made: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(buffer := BytesIO(), enforce_file_format=True)
    return buffer.getvalue()


def dicom(pixels: np.ndarray, kind: str = "MONOCHROME2", bits: int = 0, **elements: object) -> bytes:
    return saved(dataset(pixels, kind, bits, **elements))


def lookup_table(values: list[int], first: int, bits: int, kind: str = "US") -> Dataset:
    """An item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values) % 2**16, first, bits])
    item.add_new("LUTData", kind, values if kind == "US" else np.array(values, "<u2").tobytes())
    return item
