"""Stage `finetune`: one cell's transformer is fine-tuned, its best checkpoint kept and tested."""

import logging

from flows.artifacts import by_name, progress_of, show_table
from flows.launch import main
from flows.layout import cell_name, model_dir, prepared_dir, resume_dir
from flows.locks import is_first
from flows.runner import Step, stage
from pipeline.metrics.classification import classify_cell
from pipeline.params import load_params
from pipeline.records import PreparedSet
from pipeline.training import fit_cell

log = logging.getLogger("flows")

fit_step = Step(fit_cell, called="fine-tune", heavy=True)
classify_step = Step(classify_cell, called="test", heavy=True)


@stage(lambda dataset, model, seed=None: f"finetune {cell_name(dataset, model, seed)}", heavy=True)
def finetune(dataset: str, model: str, seed: int | None = None) -> None:
    """Fine-tune one model on one dataset and test it."""
    params, cell = load_params(), cell_name(dataset, model, seed)
    study, trained = params.study.of_repeat(seed), model_dir(dataset, model, seed)
    chosen, images = params.models[model], PreparedSet.read(prepared_dir(dataset)).images
    log.info("%s: %s (weights: %s), on the %d images of %s", cell, chosen.arch, chosen.weights, images, dataset)
    receipt = fit_step(
        prepared_dir(dataset),
        trained,
        resume_dir(dataset, model, seed),
        model,
        chosen,
        params.finetune,
        study,
        progress=progress_of(f"fine-tune {cell}", epochs=params.finetune.epochs),
    )
    if not is_first():
        return
    kept, best = (receipt.best_epoch, receipt.epochs_run), receipt.best_validation_macro_f1
    log.info("%s: epoch %d of %d is kept, of validation macro-F1 %.3f, in %s", cell, *kept, best, trained)
    result = classify_step(prepared_dir(dataset), trained, params.finetune.batch_size, study)
    log.info("%s: %d test images, balanced accuracy %.3f", cell, result.images, result.test["balanced_accuracy"])
    show_table(f"test-{cell}", by_name("metric", result.test), f"Test metrics of {cell}, {result.images} images")
    predicted = [dict(zip(receipt.classes, row, strict=True)) for row in result.confusion]
    confusion = by_name("label \\ predicted", dict(zip(receipt.classes, predicted, strict=True)))
    show_table(f"confusion-{cell}", confusion, f"Test images of {cell} by label and predicted class")


if __name__ == "__main__":
    main(finetune, "flows.finetune")
