"""One line out of whatever MLflow and its web framework say."""

import json

import pytest
from mlflow.exceptions import MlflowException

from pipeline.serving.refusals import LONGEST_LINE, Refusal, as_error_body, one_line


def test_a_refusal_stays_its_line_when_mlflow_puts_the_data_before_it():
    refusal = Refusal("row 0: not an image")
    refusal.message = f"Failed to predict data '...'. \nError: {refusal.message}"
    assert json.loads(refusal.serialize_as_json()) == {
        "error_code": "INVALID_PARAMETER_VALUE",
        "message": "row 0: not an image",
    }
    assert refusal.get_http_status_code() == 400


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Failed to predict data 'a\nb'. \nError: Failed to enforce schema of data 'a'. Error: Missing.", "Missing."),
        ("Not JSON: Error: 'x'\nInput: \n{}", "Not JSON: Error: 'x'"),
        ("\n  first  \nsecond", "first"),
        ("", ""),
        ("x" * 1000, "x" * LONGEST_LINE + "…"),
    ],
)
def test_a_message_is_its_first_sentence_without_the_data(message, line):
    assert one_line(message) == line


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b'{"detail": "Not Found"}', {"error_code": "NOT_FOUND", "message": "Not Found"}),
        (500, b"Internal Server Error", {"error_code": "INTERNAL_SERVER_ERROR", "message": "Internal Server Error"}),
        (415, b'"text"', {"error_code": "UNSUPPORTED_MEDIA_TYPE", "message": "text"}),
        (504, b"", {"error_code": "GATEWAY_TIMEOUT", "message": ""}),
    ],
)
def test_every_error_takes_one_form(status, body, told):
    assert json.loads(as_error_body(status, body)) == told


def test_a_stack_trace_goes_to_the_log_and_not_to_the_client(caplog):
    error = MlflowException("Failed.", error_code=3, stack_trace="Traceback: secret")
    body = as_error_body(400, error.serialize_as_json().encode())
    assert json.loads(body).keys() == {"error_code", "message"}
    assert "secret" not in body
    assert "secret" in caplog.text
