"""A stage for test_training_processes: fine-tunes as `flows.finetune` does, and its second process may kill itself."""

import os
import signal

from flows.launch import main
from flows.layout import model_dir, prepared_dir, resume_dir
from flows.runner import stage
from pipeline.params import load_params
from pipeline.training import fit_cell


@stage("killed")
def killed(dataset: str, model: str, at: int) -> None:
    def progress(done: int, total: int) -> None:
        if done == at and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    params, folders = load_params(), (prepared_dir(dataset), model_dir(dataset, model), resume_dir(dataset, model))
    fit_cell(*folders, model, params.models[model], params.finetune, params.study, progress)


if __name__ == "__main__":
    main(killed, "tests.training_worker")
