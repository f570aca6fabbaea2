"""Stop conditions: one look at the world, which says "go on" or "stop". What cannot be read says "stop". When to look is ``watch``'s.

Client libraries (httpx, boto3) are imported with the first condition that needs them.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from chaos.core.durations import parse_duration_s
from chaos.engine.policy import CloudWatchStop, HttpStop, ProbeStop, PrometheusStop, StopCondition, condition_name, without_secrets

MAX_BODY = 1 << 20


class Reading(msgspec.Struct, frozen=True):
    """One look. ``text`` is what was seen, in one line; ``readable`` False: it could not be read, and so it fires."""

    name: str
    fired: bool
    text: str
    readable: bool = True


class _Unreadable(Exception):
    """The reason why there is no answer."""


class Condition:
    """One stop condition that can be looked at again and again. A look that hangs is abandoned, and no second one is begun beside it."""

    def __init__(self, condition: StopCondition, base: Path) -> None:
        self.condition, self.name = condition, condition_name(condition)
        self.poll_s, self.timeout_s = parse_duration_s(condition.poll), parse_duration_s(condition.timeout)
        self._look = _looker(condition, base, self.timeout_s)
        self._hanging: threading.Thread | None = None

    def read(self) -> Reading:
        """Never raises, and returns within the condition's timeout."""
        if self._hanging is not None and self._hanging.is_alive():
            return self._unreadable(f"the look before still hangs (timeout {self.timeout_s:g} s)")
        answer: list[Reading] = []
        thread = threading.Thread(target=lambda: answer.append(self._attempt()), name=f"gameday look {self.name}", daemon=True)
        thread.start()
        thread.join(self.timeout_s)
        if answer:
            return answer[0]
        self._hanging = thread
        return self._unreadable(f"no answer within {self.timeout_s:g} s")

    def _attempt(self) -> Reading:
        try:
            said = self._look()
        except _Unreadable as err:
            return self._unreadable(str(err))
        except Exception as err:  # noqa: BLE001  (a probe may raise anything; not knowing means stop)
            return self._unreadable(f"{type(err).__name__}: {str(err).partition(chr(10))[0]}")
        return Reading(self.name, bool(said), said or "quiet")

    def _unreadable(self, why: str) -> Reading:
        return Reading(self.name, True, f"could not be read, which counts as fired: {why}", readable=False)


def _looker(condition: StopCondition, base: Path, timeout_s: float) -> Callable[[], str]:
    """A function that returns the reason to stop, or ""."""
    if isinstance(condition, HttpStop):
        return lambda: _http(condition, timeout_s)
    if isinstance(condition, PrometheusStop):
        return lambda: _prometheus(condition, timeout_s)
    if isinstance(condition, CloudWatchStop):
        return _CloudWatch(condition, timeout_s)
    return _Probe(condition, base)


# -- HTTP ------------------------------------------------------------------------------------------------------------------------


def _get(url: str, timeout_s: float, params: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and the beginning of the body. An address may hold a password: it is in no error."""
    import httpx

    try:
        with httpx.stream("GET", url, params=params, timeout=timeout_s) as answer:
            body = b""
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) >= MAX_BODY:
                    break
            return answer.status_code, body[:MAX_BODY].decode(errors="replace")
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise _Unreadable(f"{type(err).__name__} from {without_secrets(url)}") from err


def _http(condition: HttpStop, timeout_s: float) -> str:
    status, body = _get(condition.http, timeout_s)
    if status != condition.expect_status:
        return f"answered {status}, expected {condition.expect_status}"
    if condition.expect_text and condition.expect_text not in body:
        return f"the answer does not contain {condition.expect_text!r}"
    return ""


class _Result(msgspec.Struct):
    resultType: str
    result: Any


class _Answer(msgspec.Struct):
    """https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries"""

    status: str
    data: _Result | None = None
    error: str = ""


def _prometheus(condition: PrometheusStop, timeout_s: float) -> str:
    status, body = _get(f"{condition.prometheus.rstrip('/')}/api/v1/query", timeout_s, {"query": condition.query})
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, ValueError) as err:
        raise _Unreadable(f"answered {status}, and not as Prometheus does: {err}") from err
    if answer.status != "success" or answer.data is None:
        raise _Unreadable(f"answered {status}: {answer.error or answer.status}")
    values = _values(answer.data)
    for value in values:
        if condition.above is not None and value > condition.above:
            return f"{value:g} is above {condition.above:g}"
        if condition.below is not None and value < condition.below:
            return f"{value:g} is below {condition.below:g}"
    return ""


def _values(data: _Result) -> list[float]:
    try:
        if data.resultType == "scalar":
            pairs = [data.result]
        elif data.resultType == "vector":
            pairs = [sample["value"] for sample in data.result]
        else:
            raise _Unreadable(f"the query gives a {data.resultType}, not a number")
        values = [float(text) for _, text in pairs]
    except (KeyError, TypeError, ValueError) as err:
        raise _Unreadable(f"an answer that is none: {err}") from err
    if not values or any(math.isnan(value) for value in values):
        raise _Unreadable("the query gives no sample" if not values else "the query gives NaN")
    return values


# -- CloudWatch ------------------------------------------------------------------------------------------------------------------


class _CloudWatch:
    """Keeps its client between looks: to make one costs more than to ask."""

    def __init__(self, condition: CloudWatchStop, timeout_s: float) -> None:
        self._condition, self._timeout_s = condition, timeout_s
        self._client: Any = None

    def __call__(self) -> str:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as err:
            raise _Unreadable(f"{err}; next: pip install 'pytest-gameday[aws]'") from err
        condition = self._condition
        try:
            if self._client is None:
                session = boto3.Session(profile_name=condition.profile or None, region_name=condition.region)
                config = Config(connect_timeout=self._timeout_s, read_timeout=self._timeout_s, retries={"total_max_attempts": 1})
                self._client = session.client("cloudwatch", config=config)
            answer = self._client.describe_alarms(AlarmNames=[condition.cloudwatch_alarm], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        except (BotoCoreError, ClientError) as err:
            raise _Unreadable(str(err)) from err
        alarms = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
        if not alarms:
            raise _Unreadable(f"there is no alarm {condition.cloudwatch_alarm!r} in {condition.region}")
        state, reason = str(alarms[0]["StateValue"]), str(alarms[0].get("StateReason", ""))
        if state == "OK":
            return ""
        if state == "ALARM":
            return f"the alarm is on: {reason}" if reason else "the alarm is on"
        raise _Unreadable(f"the alarm's state is {state}")


# -- a function of the project ---------------------------------------------------------------------------------------------------


class _Probe:
    """Loads the function with the first look."""

    def __init__(self, condition: ProbeStop, base: Path) -> None:
        self._condition, self._base = condition, base
        self._function: Callable[..., object] | None = None

    def __call__(self) -> str:
        if self._function is None:
            self._function = _function(self._condition.probe, self._base)
        said = self._function(**self._condition.params)
        if said is None or said is False or said == "":
            return ""
        if said is True:
            return "the probe says stop"
        if isinstance(said, str):
            return said
        raise _Unreadable(f"the probe returned {said!r}; expected the reason as text, True, or nothing")


def _function(named: str, base: Path) -> Callable[..., object]:
    path, colons, name = named.rpartition("::")
    if colons:
        module = _load_file(base / path)
    else:
        dotted, _, name = named.rpartition(":")
        if not dotted:
            raise _Unreadable(f"{named!r} is neither package.module:function nor path/file.py::function")
        module = importlib.import_module(dotted)
    function = getattr(module, name, None)
    if not callable(function):
        raise _Unreadable(f"there is no function {name!r} in {module.__name__}")
    return cast("Callable[..., object]", function)


def _load_file(path: Path) -> ModuleType:
    name = f"_gameday_probe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _Unreadable(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
