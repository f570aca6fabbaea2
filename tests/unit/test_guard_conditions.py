"""Stop conditions against real servers: what fires, what does not, and that everything unreadable fires."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chaos.core.clock import now_ns, seconds
from chaos.engine.conditions import Condition, Reading
from chaos.engine.policy import CloudWatchStop, HttpStop, ProbeStop, PrometheusStop, StopCondition


class World(ThreadingHTTPServer):
    """A web server that answers what the test says, after it lets it; and one that drips a byte now and then."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.status, self.body = 200, "ok"
        self.let_go = threading.Event()
        self.let_go.set()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        world = self.server
        assert isinstance(world, World)
        world.asked.append(self.path)
        self.send_response(world.status)
        self.end_headers()
        while not world.let_go.wait(0.1):
            self.wfile.write(b".")  # never silent for as long as a timeout between two bytes
        self.wfile.write(world.body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def world() -> Iterator[World]:
    """The server, running."""
    server = World()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    server.server_close()
    thread.join()


def _read(condition: StopCondition, base: Path = Path()) -> Reading:
    return Condition(condition, base).read()


def test_http_fires_when_the_answer_is_another(world: World) -> None:
    """The expected status and text are quiet; another status, a missing text, and nobody at all fire."""
    condition = HttpStop(http=f"{world.url}/health", expect_text="ok")
    assert _read(condition) == Reading(f"http {world.url}/health", False, "quiet")
    world.body = "degraded"
    assert _read(condition).text == "the answer does not contain 'ok'"
    world.status = 503
    assert (_read(condition).fired, _read(condition).text) == (True, "answered 503, expected 200")
    nobody = _read(HttpStop(http="http://127.0.0.1:9/health?token=hidden", timeout="1s"))
    assert (nobody.fired, nobody.readable) == (True, False)
    assert "could not be read, which counts as fired" in nobody.text and "hidden" not in nobody.text


def test_an_answer_that_drips_is_cut_off_at_the_timeout(world: World) -> None:
    """A server that sends a byte now and then cannot keep a look busy beyond its timeout, and no second look starts beside it."""
    world.let_go.clear()
    condition = Condition(HttpStop(http=world.url, timeout="400ms"), Path())
    begun = now_ns()
    assert "no answer within 0.4 s" in condition.read().text
    assert "still hangs" in condition.read().text
    assert seconds(now_ns() - begun) < 2.0
    assert len(world.asked) == 1


def _prometheus(result: object, kind: str = "vector") -> str:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}})


def _vector(*values: str) -> str:
    return _prometheus([{"metric": {}, "value": [1.0, value]} for value in values])


@pytest.mark.parametrize(
    ("body", "bound", "fired", "said"),
    [
        (_vector("0.01"), {"above": 0.05}, False, "quiet"),
        (_vector("0.01", "0.2"), {"above": 0.05}, True, "0.2 is above 0.05"),
        (_prometheus([1.0, "2"], "scalar"), {"below": 3.0}, True, "2 is below 3"),
        (_prometheus([1.0, "3"], "scalar"), {"below": 3.0}, False, "quiet"),
        (_vector(), {"above": 0.05}, True, "no sample"),
        (_vector("NaN"), {"above": 0.05}, True, "NaN"),
        (_prometheus([], "matrix"), {"above": 0.05}, True, "gives a matrix"),
        ('{"status": "error", "error": "parse error"}', {"above": 0.05}, True, "parse error"),
        ("<html>", {"above": 0.05}, True, "not as Prometheus does"),
    ],
)  # fmt: skip
def test_prometheus_compares_every_sample(world: World, body: str, bound: dict[str, float], fired: bool, said: str) -> None:
    """One sample beyond the bound fires; no sample, NaN, another type, an error and another program count as unreadable."""
    world.body = body
    reading = _read(PrometheusStop(prometheus=f"{world.url}/", query='rate(errors{job="a b"}[1m])', **bound))
    assert reading.fired == fired
    assert said in reading.text
    assert world.asked[0].startswith("/api/v1/query?query=rate")


PROBES = """
import threading
def quiet(): return ""
def says(word, times=1): return word * times
def yes(): return True
def no(): return False
def number(): return 0
def bad(): raise RuntimeError("no idea\\nsecond line")
def hangs(): threading.Event().wait(30)
"""


@pytest.mark.parametrize(
    ("name", "params", "fired", "said"),
    [
        ("quiet", {}, False, "quiet"),
        ("no", {}, False, "quiet"),
        ("yes", {}, True, "the probe says stop"),
        ("says", {"word": "queue ", "times": 2}, True, "queue queue "),
        ("number", {}, True, "the probe returned 0"),
        ("bad", {}, True, "RuntimeError: no idea"),
        ("hangs", {}, True, "no answer within 0.3 s"),
        ("absent", {}, True, "there is no function 'absent'"),
    ],
)
def test_a_probe_says_stop_by_a_reason(tmp_path: Path, name: str, params: dict[str, object], fired: bool, said: str) -> None:
    """A function of the project stops a drill by returning why; whatever else it does but returning nothing counts as fired."""
    (tmp_path / "checks.py").write_text(PROBES, encoding="utf-8")
    reading = _read(ProbeStop(probe=f"checks.py::{name}", params=params, timeout="300ms" if name == "hangs" else "20s"), tmp_path)
    assert (reading.fired, said in reading.text) == (fired, True), reading


def test_a_probe_may_live_in_a_package() -> None:
    """``package.module:function`` is imported; one that does not exist fires."""
    assert not _read(ProbeStop(probe="os.path:isabs", params={"s": "relative"}, timeout="20s")).fired
    assert "ModuleNotFoundError" in _read(ProbeStop(probe="no_such_package:f", timeout="20s")).text
    assert "neither package.module:function" in _read(ProbeStop(probe="nothing", timeout="20s")).text


def test_a_cloudwatch_alarm_fires_in_the_state_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """OK is quiet, ALARM fires with its reason; INSUFFICIENT_DATA and an alarm that does not exist count as unreadable."""
    moto = pytest.importorskip("moto", reason="pip install 'pytest-gameday[test]'")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        client = boto3.client("cloudwatch", region_name="eu-central-1")
        alarm = {"MetricName": "errors", "Namespace": "shop", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
        client.put_metric_alarm(AlarmName="shop-5xx", Threshold=1.0, ComparisonOperator="GreaterThanThreshold", **alarm)
        condition = Condition(CloudWatchStop(cloudwatch_alarm="shop-5xx", region="eu-central-1", timeout="30s"), Path())
        for state, fired, readable, said in (
            ("OK", False, True, "quiet"),
            ("ALARM", True, True, "the alarm is on: too many"),
            ("INSUFFICIENT_DATA", True, False, "INSUFFICIENT_DATA"),
        ):
            client.set_alarm_state(AlarmName="shop-5xx", StateValue=state, StateReason="too many")
            reading = condition.read()
            assert (reading.fired, reading.readable, said in reading.text) == (fired, readable, True), reading
        absent = _read(CloudWatchStop(cloudwatch_alarm="shop-4xx", region="eu-central-1", timeout="30s"))
        assert absent.fired and "there is no alarm 'shop-4xx' in eu-central-1" in absent.text
