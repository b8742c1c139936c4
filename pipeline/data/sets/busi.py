"""BUSI: breast ultrasound with outlined lesions, 3 classes; 780 images of 600 women."""

from pipeline.spec import DatasetSpec

BUSI = DatasetSpec(
    name="busi",
    kind="busi",
    title="BUSI breast ultrasound",
    classes=("benign", "malignant", "normal"),
    flips=("horizontal",),  # skin is always on top, and shadows fall downwards
    colour=False,
    evidence="lesion",
    without_evidence=("normal",),
    licence="no licence text on the source page; the article is CC BY 4.0",
    citation=(
        "Al-Dhabyani W, Gomaa M, Khaled H, Fahmy A. Dataset of breast ultrasound images. "
        "Data in Brief 28 (2020) 104863. doi:10.1016/j.dib.2019.104863"
    ),
    doi="10.1016/j.dib.2019.104863",
    source_url="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset",
    traits=("burnt_in_marks",),
)
