"""Which registered version is served, and what is said where there is none."""

import pytest

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.serving.application import find_served, listen

pytestmark = pytest.mark.slow


def test_an_alias_and_a_number_lead_to_the_same_version(study):
    served = find_served("busi", "champion", None)
    assert find_served("busi", "anything", 1) == served
    checkpoint = sha256_of(study.data / "models/busi/vit/model.safetensors")
    assert served.headers == {"X-Model-Version": "busi-classifier/1", "X-Checkpoint-SHA256": checkpoint}


@pytest.mark.parametrize(
    ("alias", "number", "named"), [("challenger", None, "alias challenger"), ("champion", 9, "version 9")]
)
def test_a_version_that_is_not_there_is_refused_with_the_way_to_promote_one(alias, number, named, study):
    with pytest.raises(
        StudyError, match=f"^busi-classifier: {named} .*python -m flows.promote --dataset busi"
    ) as error:
        find_served("busi", alias, number)
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken_is_refused_before_a_model_is_loaded():
    with listen("127.0.0.1", 0) as listener, pytest.raises(StudyError, match="choose another --host or --port"):
        listen("127.0.0.1", listener.getsockname()[1])
