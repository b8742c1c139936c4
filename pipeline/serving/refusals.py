"""What a client is told of a request that cannot be answered: one line, in one form, never a stack trace."""

import json
import logging
from http import HTTPStatus

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.scoring_server import SCORING_PROTOCOL_CHANGE_INFO

logger = logging.getLogger(__name__)

LONGEST_LINE = 400  # characters; MLflow's own messages repeat the request
AROUND_THE_DATA = ("Failed to predict data", "Failed to enforce schema of data")


class Refusal(MlflowException):
    """A wrong request. MLflow's server puts the data before the message; what it sends stays the line."""

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)
        self.line = line

    def serialize_as_json(self) -> str:
        return error_body(self.error_code, self.line)


def error_body(error_code: str, line: str) -> str:
    return json.dumps({"error_code": error_code, "message": line})


def as_error_body(status: int, body: bytes) -> str:
    """The error that MLflow, FastAPI or Starlette answered, in our form; its stack trace goes to the log."""
    found = _parsed(body)
    if trace := found.get("stack_trace"):
        logger.error("%s", trace)
    code = found.get("error_code", HTTPStatus(status).name)
    return error_body(code, one_line(str(found.get("message") or found.get("detail") or "")))


def one_line(message: str) -> str:
    """The sentence that says what is wrong, out of a message that may repeat the request's data before and after it."""
    if message.startswith(AROUND_THE_DATA):
        message = message.rpartition("Error: ")[2]
    first = message.replace(SCORING_PROTOCOL_CHANGE_INFO, "").strip().partition("\n")[0].strip()
    return first if len(first) <= LONGEST_LINE else f"{first[:LONGEST_LINE]}…"


def _parsed(body: bytes) -> dict:
    try:
        found = json.loads(body)
    except ValueError:
        return {"message": body.decode(errors="replace")}
    return found if isinstance(found, dict) else {"message": str(found)}
