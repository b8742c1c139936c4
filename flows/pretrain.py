"""Pre-training of one model on the images of `pretraining.sources`: weights, receipt and card in data/pretrained."""

from flows.artifacts import progress_of, show_table
from flows.layout import CORPUS, pretrained_weights, resume_dir
from flows.options import main
from flows.publish import context, patient_step
from flows.runner import Step, stage
from pipeline.params import Params, load_params
from pipeline.params.training import StrategyParams
from pipeline.pretraining.pretrain import pretrain_model
from pipeline.pretraining.sources import prepare_sources
from pipeline.publishing import publish_pretraining

prepare_step = Step(prepare_sources, called="prepare images")
pretrain_step = Step(pretrain_model, called="pre-train")
publish_step = patient_step(publish_pretraining)


@stage("pretrain {model}")
def pretrain(model: str) -> None:
    """Pre-train one model, measure what its features tell, and record both in MLflow."""
    params = load_params()
    prepared = prepare_step(params, CORPUS, progress=progress_of("prepare the images"))
    receipt = pretrain_step(
        model,
        params,
        prepared,
        pretrained_weights(model),
        resume_dir("pretrain", model),
        progress=progress_of(f"pre-train {model}", epochs=epochs_of(params, model)),
    )
    publish_step(pretrained_weights(model), context())
    show_table(f"history-{model}", list(receipt.history), "Epochs")
    show_table(f"probes-{model}", [{"set": name, **found} for name, found in receipt.probes.items()], "Probes")


def epochs_of(params: Params, model: str) -> int:
    section: StrategyParams = getattr(params.pretraining, params.pretraining.strategies[model])
    return section.epochs


if __name__ == "__main__":
    main(pretrain)
