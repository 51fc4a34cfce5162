"""PyPI's cloudevents, unmodified, against the gateway's control listener: binary and structured mode, with both of its APIs.

Arguments: the control listener's host and port. Exits with 0 where everything holds.
"""

import json
import sys
from datetime import datetime, timezone

import requests
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as old_to_binary
from cloudevents.v1.conversion import to_structured as old_to_structured
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from cloudevents.v1.http import from_http as old_from_http

BASE = f"http://{sys.argv[1]}:{sys.argv[2]}"
# A step that takes longer hangs.
STEP_S = 20
OWN = {"stream", "revision", "position"}
TIME = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=timezone.utc)
CASES = {
    "json": ("application/json", {"total": 12.5, "lines": ["a", "ü€😀"], "nothing": None}),
    "text": ("text/plain", "grün, with \"quotes\" and 100 %"),
    "bytes": ("application/octet-stream", bytes(range(256))),
    "empty": (None, None),
}


def post(path, message):
    answer = requests.post(BASE + path, headers=message[0], data=message[1], timeout=STEP_S)
    assert answer.status_code == 201, (answer.status_code, answer.text)
    [place] = answer.json()["events"]
    return place


def stored(place):
    path = f"{BASE}/streams/{place['stream']}?from={place['revision']}&limit=1"
    [event] = requests.get(path, timeout=STEP_S).json()["events"]
    return {"content-type": "application/cloudevents+json"}, json.dumps(event).encode()


def attributes(name, content_type):
    given = {
        "id": f"{name} 1 %\"ü€😀",
        "source": "/tests/python",
        "type": f"test.{name}",
        "subject": "a subject with blanks, €",
        "time": TIME,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return given | ({"datacontenttype": content_type} if content_type else {})


def check(event, sent, data):
    got = event.get_attributes()
    for name, value in sent.items():
        assert got[name] == value, (name, got[name], value)
    assert OWN <= set(got), got
    assert event.get_data() == data, (event.get_data(), data)


for name, (content_type, data) in CASES.items():
    sent = attributes(name, content_type)
    event = CloudEvent(attributes=sent, data=data)
    for mode, to_message in (("binary", to_binary_event), ("structured", to_structured_event)):
        message = to_message(event)
        place = post(f"/streams/{mode}-{name}", (message.headers, message.body))
        assert (place["revision"], place["duplicate"]) == (0, False), place
        headers, body = stored(place)
        check(from_structured_event(HTTPMessage(headers, body)), sent, data)

    # Its older API, which most of its users have, and which knows JSON alone.
    if name not in ("json", "empty"):
        continue
    old = {key: value.isoformat() if key == "time" else value for key, value in sent.items()}
    old["id"] = f"{name}-1"
    old["subject"] = "plain"
    event = OldCloudEvent(old, data)
    for mode, to_message in (("old-binary", old_to_binary), ("old-structured", old_to_structured)):
        headers, body = to_message(event)
        place = post(f"/streams/{mode}-{name}", (headers, body))
        headers, body = stored(place)
        got = old_from_http(headers, body)
        assert got["id"] == old["id"] and got["subject"] == "plain", got
        assert got.data == data, (got.data, data)

answer = requests.post(f"{BASE}/events", headers={"content-type": "application/cloudevents+json"}, data=b'{"id": "1"}', timeout=STEP_S)
assert answer.status_code == 422 and "specversion" in answer.text, answer.text
