"""MLflow's decorator of its route is replaced once."""

from mlflow.pyfunc import scoring_server

from pipeline.serving.mlflow_server import CATCH, mend_errors


def test_mending_twice_puts_one_gate_before_the_route(monkeypatch):
    monkeypatch.setattr(scoring_server, CATCH, getattr(scoring_server, CATCH))
    own = getattr(scoring_server, CATCH)
    mend_errors()
    mended = getattr(scoring_server, CATCH)
    mend_errors()
    assert getattr(scoring_server, CATCH) is mended
    assert mended is not own


def test_an_mlflow_without_the_decorator_is_left_as_it_is(monkeypatch, caplog):
    monkeypatch.delattr(scoring_server, CATCH)
    mend_errors()
    assert not hasattr(scoring_server, CATCH)
    assert "errors are shown as they are" in caplog.text
