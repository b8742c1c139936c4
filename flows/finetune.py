"""Stage `finetune`: one cell's transformer is fine-tuned, its best checkpoint kept and tested."""

from flows.layout import model_dir, prepared_dir, resume_dir
from flows.runner import Step, main, progress_of, show_table, stage
from pipeline import data
from pipeline.metrics.classification import classify_cell
from pipeline.params import load_params
from pipeline.training import fit_cell

fit_step = Step(fit_cell)
classify_step = Step(classify_cell)


@stage("finetune {dataset}-{model}")
def finetune(dataset: str, model: str) -> None:
    """Fine-tune one model on one dataset and test it."""
    params = load_params()
    fit_step(
        prepared_dir(dataset),
        model_dir(dataset, model),
        resume_dir(dataset, model),
        data.get(dataset),
        model,
        params.models[model],
        params.finetune,
        params.study,
        progress=progress_of(f"finetune {dataset}-{model}"),
    )
    result = classify_step(prepared_dir(dataset), model_dir(dataset, model), params.finetune.batch_size, params.study)
    show_table(f"test-{dataset}-{model}", [{"metric": k, "value": v} for k, v in result.test.items()], "Test metrics")


if __name__ == "__main__":
    main(finetune)
