"""A folder or archive of images whose classes nobody knows: enough for pre-training without labels."""

from pipeline.spec import DatasetSpec


def unlabelled(name: str) -> DatasetSpec:
    """The set of that name: all images in one class, nothing known of them but that a mirror image is plausible."""
    return DatasetSpec(
        name=name,
        title=f"{name}, without labels",
        classes=("unlabelled",),
        flips=("horizontal",),
        colour=True,
        evidence="",
        without_evidence=(),
        licence="of the owner",
        citation="",
        doi="",
        source_url="",
        labelled=False,
    )
