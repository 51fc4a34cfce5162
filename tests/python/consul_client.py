"""py-consul, unmodified, against the gateway's control listener.

Arguments: the control listener's host and port. Exits with 0 where everything holds; prints how long a blocking query
took to be woken, from the answer to the change, in milliseconds.
"""

import statistics
import sys
import threading
import time
import urllib.request

import consul

HOST, PORT = sys.argv[1], int(sys.argv[2])
ROUNDS = 15
WOKEN_MS_MAX = 50
# A step that takes longer hangs.
STEP_S = 20


def until(what, holds):
    deadline = time.monotonic() + STEP_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {STEP_S} s: {what}"
        time.sleep(0.002)


def waiting_queries():
    with urllib.request.urlopen(f"http://{HOST}:{PORT}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("sluice_registry_waiting_queries "))


def statuses(client, **query):
    index, entries = client.health.service("web", **query)
    return int(index), {entry["Service"]["ID"]: entry["Checks"][-1]["Status"] for entry in entries}


def life_of_a_service(client):
    assert client.status.leader() == f"{HOST}:{PORT}"
    client.agent.service.register(
        "web",
        service_id="web-1",
        address="10.0.0.7",
        port=8080,
        tags=["blue", "v2"],
        meta={"version": "2"},
        check=consul.Check.ttl("10m"),
    )
    _, seen = statuses(client)
    assert seen == {"web-1": "critical"}, seen
    _, seen = statuses(client, passing=True)
    assert seen == {}, seen
    assert client.agent.check.ttl_pass("service:web-1", "all is well")
    index, entries = client.health.service("web", passing=True, tag="blue")
    (entry,) = entries
    service = entry["Service"]
    assert (service["Address"], service["Port"], service["Tags"]) == ("10.0.0.7", 8080, ["blue", "v2"]), service
    assert service["Meta"] == {"version": "2"} and service["Weights"] == {"Passing": 1, "Warning": 1}, service
    (check,) = [check for check in entry["Checks"] if check["CheckID"] == "service:web-1"]
    assert (check["Status"], check["Output"], check["Type"]) == ("passing", "all is well", "ttl"), check
    assert int(index) > 0 and entry["Node"]["Address"], entry
    assert client.health.service("web", tag="green")[1] == []
    assert client.catalog.services()[1] == {"web": ["blue", "v2"]}
    assert client.catalog.service("web")[1][0]["ServicePort"] == 8080
    assert client.agent.services()["web-1"]["Service"] == "web"
    assert client.agent.checks()["service:web-1"]["Status"] == "passing"
    assert [check["CheckID"] for check in client.health.checks("web")[1]] == ["service:web-1"]
    assert "service:web-1" in [check["CheckID"] for check in client.health.state("passing")[1]]
    (node,) = client.catalog.nodes()[1]
    assert "service:web-1" in [check["CheckID"] for check in client.health.node(node["Node"])[1]]
    assert client.agent.self()["Config"]["Datacenter"] in client.catalog.datacenters()


def maintenance(client):
    client.agent.service.maintenance("web-1", "true", "a new disk")
    assert statuses(client, passing=True)[1] == {}
    client.agent.service.maintenance("web-1", "false")
    assert statuses(client, passing=True)[1] == {"web-1": "passing"}
    client.agent.maintenance("true")
    assert statuses(client, passing=True)[1] == {}
    client.agent.maintenance("false")
    assert statuses(client, passing=True)[1] == {"web-1": "passing"}


def checks(client):
    client.agent.check.register("disk", check=consul.Check.ttl("10m"), service_id="web-1", check_id="disk")
    assert statuses(client, passing=True)[1] == {}
    client.agent.check.ttl_pass("disk")
    assert statuses(client, passing=True)[1] == {"web-1": "passing"}
    client.agent.check.ttl_warn("disk", "nearly full")
    assert statuses(client, passing=True)[1] == {}
    client.agent.check.deregister("disk")
    assert statuses(client, passing=True)[1] == {"web-1": "passing"}
    assert not client.agent.check.ttl_pass("disk"), "a check that is not there took a heartbeat"


def blocking_queries_are_woken(client):
    woken_ms = []
    for number in range(ROUNDS):
        index, _ = statuses(client)
        answers = []

        def wait():
            answer = statuses(consul.Consul(HOST, PORT), index=index, wait="20s")
            answers.append((time.monotonic(), answer))

        waiter = threading.Thread(target=wait)
        waiter.start()
        until("the query waits", lambda: waiting_queries() == 1)
        status = client.agent.check.ttl_fail if number % 2 == 0 else client.agent.check.ttl_pass
        status("service:web-1")
        changed = time.monotonic()
        waiter.join(STEP_S)
        at, (new_index, seen) = answers[0]
        assert new_index > index and seen["web-1"] == ("critical" if number % 2 == 0 else "passing"), seen
        woken_ms.append((at - changed) * 1000)
    median, quick = statistics.median(woken_ms), sorted(woken_ms)[ROUNDS // 4]
    print(f"py-consul: woken after {median:.1f} ms (median), {max(woken_ms):.1f} ms (longest)")
    # The faster ones: what a busy machine adds to the others is not the gateway's.
    assert quick <= WOKEN_MS_MAX, woken_ms
    client.agent.check.ttl_pass("service:web-1")
    index, _ = statuses(client)
    started = time.monotonic()
    same, _ = statuses(client, index=index, wait="100ms")
    assert same == index and time.monotonic() - started >= 0.1, "without a change it waits as long as asked"


def end_of_a_service(client):
    index, _ = statuses(client)
    assert client.agent.service.deregister("web-1")
    last, seen = statuses(client, index=index, wait="20s")
    assert last > index and seen == {}, (last, seen)
    assert client.catalog.services()[1] == {}
    assert not client.agent.service.deregister("web-1"), "an unknown service was deregistered"


client = consul.Consul(HOST, PORT)
life_of_a_service(client)
maintenance(client)
checks(client)
blocking_queries_are_woken(client)
end_of_a_service(client)
