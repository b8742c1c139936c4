"""PBC: single peripheral blood cells, stained, 8 kinds; 17,092 images, no masks."""

from pipeline.spec import DatasetSpec

PBC = DatasetSpec(
    name="pbc",
    kind="pbc",
    title="PBC peripheral blood cells",
    classes=("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet"),
    flips=("horizontal", "vertical"),  # a smear has no up or down
    colour=True,
    evidence="cell",
    without_evidence=(),
    licence="CC BY 4.0",
    citation=(
        "Acevedo A, Merino A, Alférez S, Molina Á, Boldú L, Rodellar J. A dataset of microscopic peripheral blood cell "
        "images for development of automatic recognition systems. Data in Brief 30 (2020) 105474. "
        "doi:10.1016/j.dib.2020.105474"
    ),
    doi="10.17632/snkd93bnjr.1",
    source_url="https://data.mendeley.com/datasets/snkd93bnjr/1",
    traits=("acquisition_batch",),
)
