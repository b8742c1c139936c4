"""The promoted model over HTTP, served by MLflow's own command and by ours: real processes, wrong requests, crowds."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.serving.servers import COMMANDS, running, wait_until_ready
from tests.serving.worlds import animated_gif, as_png, as_text, in_base64, png_bomb

pytestmark = pytest.mark.slow

GREY = as_text(as_png(np.full((20, 20), 128, np.uint8)))
PIXELS = np.full((20, 20, 3), 128, np.uint8).tolist()
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"


@pytest.fixture(scope="module")
def servers(study, tmp_path_factory):
    """Both at once, as each takes some seconds to start."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("servers")
        started = {name: stack.enter_context(running(name, folder)) for name in COMMANDS}
        for server in started.values():
            wait_until_ready(server)
        yield started


@pytest.fixture(params=COMMANDS)
def server(request, servers):
    return servers[request.param]


def test_it_listens_on_loopback_only(server):
    port = urlsplit(server.url).port
    open_sockets = [socket for socket in psutil.net_connections("tcp") if socket.status == psutil.CONN_LISTEN]
    assert {socket.laddr.ip for socket in open_sockets if socket.laddr.port == port} == {"127.0.0.1"}


def test_answers_are_those_of_the_loaded_model(server, served, images):
    rows, params = in_base64(images), {"return_heatmap": True, "top_k": 2, "target": "malignant"}
    answer = server.predict(list(rows["image"]), **params)
    assert answer.status == 200, answer.body
    own = served.predict(rows, params=params)
    for told, (_, row) in zip(answer.json()["predictions"], own.iterrows(), strict=True):
        np.testing.assert_array_equal(np.float32(told.pop("attribution")), row.pop("attribution"))
        assert told == row.to_dict()


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"image": GREY}]},
        {"dataframe_split": {"columns": ["image"], "data": [[GREY]]}},
        {"instances": [{"image": GREY}]},
        {"instances": [GREY]},
        {"inputs": [GREY]},
        {"inputs": {"image": [GREY]}},
        {"inputs": {"image": GREY}},
        {"inputs": {"image": [PIXELS]}},
        {"instances": [PIXELS]},
        {"dataframe_records": [{"image": PIXELS}]},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_every_form_of_mlflows_protocol_is_the_same_row(body, server):
    told = server.post(json.dumps(body).encode())
    assert told.status == 200, told.body
    assert told.body == server.predict([GREY]).body


def test_rows_may_come_as_parquet(server, images):
    buffer = io.BytesIO()
    pd.DataFrame({"image": [as_png(image) for image in images]}).to_parquet(buffer)
    told = server.post(buffer.getvalue(), PARQUET)
    assert told.body == server.predict(list(in_base64(images)["image"])).body


def rows(*images: object, **params: object) -> bytes:
    return json.dumps({"dataframe_records": [{"image": image} for image in images], "params": params}).encode()


WRONG = {
    "not JSON": (b"image", JSON, 400, "valid JSON"),
    "not UTF-8": (b"\xff\xfe", JSON, 400, "valid JSON"),
    "a JSON list": (b"[1]", JSON, 400, "must be a JSON dictionary"),
    "JSON nested without end": (b"[" * 100_000, JSON, 400, "nested too deeply"),
    "no rows of the protocol": (b"{}", JSON, 400, "exactly one of the input fields"),
    "wrong column": (b'{"dataframe_records": [{"picture": "x"}]}', JSON, 400, "missing inputs ['image']"),
    "no rows": (b'{"dataframe_split": {"columns": ["image"], "data": []}}', JSON, 400, "at least one row"),
    "no inputs": (b'{"inputs": []}', JSON, 400, "at least one row"),
    "not an image": (rows(GREY, as_text(b"hello")), JSON, 400, "row 1: not an image"),
    "broken base64": (rows("%%%"), JSON, 400, "row 0: text that is not base64"),
    "nothing": (rows(GREY, GREY, None), JSON, 400, "row 2: nothing is given"),
    "a number": (rows(7), JSON, 400, "row 0: a value of type int"),
    "a path": (rows("/etc/passwd"), JSON, 400, "row 0: text that is not base64"),
    "an animation": (rows(as_text(animated_gif())), JSON, 400, "row 0: 2 frames"),
    "a bomb": (rows(as_text(png_bomb(60_000))), JSON, 400, "row 0: more than 50,000,000 pixels"),
    "ragged pixels": (rows([*PIXELS, [[1, 2, 3]]]), JSON, 400, "row 0: its pixels are no array"),
    "float pixels": (rows((np.float64(PIXELS) / 255).tolist()), JSON, 400, "row 0: pixels that are no whole numbers"),
    "unknown method": (rows(GREY, method="lime"), JSON, 400, "none of its values; choose from gradcam"),
    "unknown target": (rows(GREY, target="cyst"), JSON, 400, "choose from predicted, normal, benign, malignant"),
    "negative top_k": (rows(GREY, top_k=-1), JSON, 400, "choose from 0, 1, 2, 3"),
    "top_k in words": (rows(GREY, top_k="two"), JSON, 400, "top_k"),
    "too many rows": (rows(*[GREY] * 1025), JSON, 400, "1,025 rows are more than the 1,024 of a request"),
    "too many heatmaps": (rows(*[GREY] * 65, return_heatmap=True), JSON, 400, "65 rows with heatmaps are more than"),
    "a slow method": (rows(GREY, method="rise"), JSON, 400, "method: 'rise' is none of its values"),
    "params in a list": (b'{"inputs": ["x"], "params": [1]}', JSON, 400, "Parameters must be a dictionary"),
    "broken parquet": (b"PAR1", PARQUET, 400, "Parquet"),
    "no parquet": (b"", PARQUET, 400, "Parquet"),
    "plain text": (b"x", "text/plain", 415, "Content-Type must be application/json"),
    "CSV": (b"image\nx\n", "text/csv", 415, "Content-Type must be application/json"),
    "another encoding": (b"x", "application/json; charset=latin-1", 415, "UTF-8"),
    "200 MB": (b" " * 200_000_000, JSON, 413, "larger than the 33,554,432 bytes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_told_so_in_one_clear_line(case, server):
    body, content_type, status, line = WRONG[case]
    answer = server.post(body, content_type)
    assert answer.status == status, answer.body[:500]
    told = answer.json()
    assert told.keys() == {"error_code", "message"}
    assert line in told["message"]
    assert "\n" not in told["message"]
    assert "Traceback" not in told["message"]
    assert len(told["message"]) < 500


@pytest.mark.parametrize("content_type", ["Application/JSON", "application/json; charset=UTF-8"])
def test_a_content_type_may_be_written_in_any_case(content_type, server):
    assert server.post(rows(GREY), content_type).status == 200


@pytest.mark.parametrize("content_type", [None, ""])
def test_a_request_without_a_content_type_is_refused(content_type, server):
    # urllib names a form's type where none is given, which is as wrong.
    assert server.post(b"{}", content_type).status == 415


def test_a_body_whose_length_is_not_told_is_counted(server):
    answer = server.post([b'"' * 2**20] * 200)
    assert (answer.status, answer.json()["error_code"]) == (413, "REQUEST_ENTITY_TOO_LARGE")


def test_mlflows_protocol_is_all_there(server):
    assert [server.get(path).status for path in ("/ping", "/health", "/version")] == [200, 200, 200]


def test_our_server_says_which_version_answers_and_errs_in_one_form(servers):
    server = servers["flows.serve"]
    assert "serving version 1 of busi-classifier (checkpoint " in server.log.read_text()
    for answer in (server.predict([GREY]), server.predict([]), server.get("/nowhere"), server.get("/invocations")):
        assert answer.headers["x-model-version"] == "busi-classifier/1"
    assert server.get("/nowhere").json() == {"error_code": "NOT_FOUND", "message": "Not Found"}
    assert server.get("/invocations").status == 405


def test_eight_clients_at_once_get_the_serial_answers(server, images):
    texts = list(in_base64(images)["image"])
    asked = [{}, {"return_heatmap": True}, {"top_k": 3}, {"return_heatmap": True, "method": "gradient_rollout"}]
    serial = [server.predict(texts, **params).body for params in asked]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: server.predict(texts, **asked[number % 4]), range(48)))
    assert [answer.status for answer in answers] == [200] * 48
    assert [answer.body for answer in answers] == [serial[number % 4] for number in range(48)]
