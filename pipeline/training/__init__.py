"""Training. Read `loop` first: schedule, step, measure, keep; the other files serve it.

loop         the training itself, whatever is learned
state        what a killed training goes on from
processes    those that share one training, on several GPUs or machines
launch       how they are started, and how their end is told
batches      which images come in which order, augmented
finetuning   what a cell learns, and what decides which epoch is kept
cell         from prepared images to a model folder
"""

from pipeline.training.cell import fit_cell

__all__ = ["fit_cell"]
