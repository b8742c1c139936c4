"""Stage `finetune`: one cell's transformer is fine-tuned, its best checkpoint kept and tested."""

from flows.artifacts import progress_of, show_table
from flows.layout import cell_name, model_dir, prepared_dir, resume_dir
from flows.options import main
from flows.runner import Step, stage
from pipeline.metrics.classification import classify_cell
from pipeline.params import load_params
from pipeline.training import fit_cell

fit_step = Step(fit_cell)
classify_step = Step(classify_cell)


@stage(lambda dataset, model, seed=None: f"finetune {cell_name(dataset, model, seed)}")
def finetune(dataset: str, model: str, seed: int | None = None) -> None:
    """Fine-tune one model on one dataset and test it."""
    params, cell = load_params(), cell_name(dataset, model, seed)
    study, trained = params.study.of_repeat(seed), model_dir(dataset, model, seed)
    fit_step(
        prepared_dir(dataset),
        trained,
        resume_dir(dataset, model, seed),
        model,
        params.models[model],
        params.finetune,
        study,
        progress=progress_of(f"finetune {cell}"),
    )
    result = classify_step(prepared_dir(dataset), trained, params.finetune.batch_size, study)
    show_table(f"test-{cell}", [{"metric": k, "value": v} for k, v in result.test.items()], f"Test metrics of {cell}")


if __name__ == "__main__":
    main(finetune)
