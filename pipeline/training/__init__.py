"""Fine-tuning of one cell. Read `loop` first: schedule, step, validate, keep best; the other files serve it.

batches   which images come in which order, augmented
loop      the training itself
state     what a killed training goes on from
cell      from prepared images to a model folder
"""

from pipeline.training.cell import fit_cell

__all__ = ["fit_cell"]
