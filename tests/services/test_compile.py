"""A training with torch.compile, which wants a C++ compiler and half a minute."""

import shutil

import pandas as pd
import pytest

from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Receipt
from tests.models.tiny import ARCHITECTURES
from tests.prepared import write_prepared
from tests.test_training import PARAMS, fit


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_learns_the_same(tmp_path):
    """Every batch has nine images and the model one block: each further shape and block takes ten seconds."""
    prepared, options = write_prepared(tmp_path / "prepared", train=(4, 4, 1)), ARCHITECTURES["vit"][1] | {"depth": 1}
    params = PARAMS.model_copy(update={"batch_size": 9, "epochs": 2})
    plain, compiled = (
        fit(prepared, str(on), params=params.model_copy(update={"compile": on}), arch_options=options)
        for on in (False, True)
    )
    histories = [pd.read_csv(folder / "history.csv") for folder in (plain, compiled)]
    pd.testing.assert_frame_equal(*histories, check_exact=False, rtol=1e-4)
    names = [set(load_checkpoint(folder / "model.safetensors")[0].state_dict()) for folder in (plain, compiled)]
    assert names[0] == names[1]
    assert Receipt.read(compiled).compiled
