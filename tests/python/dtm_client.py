"""dtmcli, unmodified, against the gateway's control listener, with participants whose ledgers are looked at afterwards.

Arguments: the control listener's host and port, and the flow: saga, tcc, message or barrier. Exits with 0 where everything
holds.
"""

import json
import sqlite3
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import requests
from dtmcli import barrier, msg, saga, tcc, utils

HOST, PORT, FLOW = sys.argv[1], int(sys.argv[2]), sys.argv[3]
DTM = f"http://{HOST}:{PORT}/api/dtmsvr"
# A step that takes longer hangs.
STEP_S = 20
START = {"out": 100, "in": 0}


class Cursor:
    """sqlite3 behind the words of MySQL's in which dtmcli's barrier speaks."""

    def __init__(self, path):
        self.connection = sqlite3.connect(":memory:", timeout=STEP_S)
        self.connection.execute("attach database ? as dtm_barrier", (path,))
        self.cursor = self.connection.cursor()

    def execute(self, sql, *values):
        self.cursor.execute(sql.replace("insert ignore", "insert or ignore").replace('"', "'"), *values)
        return self.cursor.rowcount

    def fetchone(self):
        return self.cursor.fetchone()

    def close(self):
        pass


class Ledger:
    """Two accounts, and which calls have come for which transaction."""

    def __init__(self):
        self.path = tempfile.NamedTemporaryFile(delete=False, suffix=".db").name
        self.calls = []
        # Paths whose next call is answered with this status before anything happens.
        self.answers = {}
        with self.cursor() as cursor:
            cursor.execute(
                "create table dtm_barrier.barrier (trans_type text, gid text, branch_id text, op text, barrier_id text,"
                " reason text, unique (gid, branch_id, op, barrier_id))"
            )
            cursor.execute("create table dtm_barrier.account (name text primary key, balance int, frozen int)")
            for name, balance in START.items():
                cursor.execute("insert into dtm_barrier.account values (?, ?, 0)", (name, balance))
            cursor.connection.commit()

    def cursor(self):
        return barrier.AutoCursor(Cursor(self.path))

    def balances(self):
        with self.cursor() as cursor:
            rows = cursor.connection.execute("select name, balance, frozen from dtm_barrier.account").fetchall()
        assert all(frozen == 0 for _, _, frozen in rows), rows
        return {name: balance for name, balance, _ in rows}

    def ops(self, gid):
        return [f"{path}" for of, path in self.calls if of == gid]


def adjust(cursor, name, op, amount):
    """What a call means for an account. A withdrawal that is not covered is refused."""
    amount = -amount if name == "out" else amount
    if op in ("action", "try"):
        (balance, frozen) = row(cursor, name)
        if balance + frozen + amount < 0:
            raise utils.DTMFailureError("not covered")
    change = {
        "action": "balance = balance + ?",
        "compensate": "balance = balance - ?",
        "try": "frozen = frozen + ?",
        "confirm": "balance = balance + ?1, frozen = frozen - ?1",
        "cancel": "frozen = frozen - ?",
    }[op]
    cursor.execute(f"update dtm_barrier.account set {change} where name = '{name}'", (amount,))


def row(cursor, name):
    cursor.execute(f"select balance, frozen from dtm_barrier.account where name = '{name}'")
    return cursor.fetchone()


class Participant(BaseHTTPRequestHandler):
    """/plain/<account>/<op> as it comes, /barrier/<account>/<op> behind dtmcli's barrier, /query for messages."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(body["amount"])

    def do_GET(self):
        self.answer(None)

    def answer(self, amount):
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        LEDGER.calls.append((asked["gid"], url.path))
        status = LEDGER.answers.pop(url.path, None)
        if status is None:
            try:
                self.act(url.path.split("/")[1:], asked, amount)
                status = 200
            except utils.DTMFailureError:
                status = 409
        said = json.dumps({"dtm_result": {200: "SUCCESS", 409: "FAILURE"}.get(status, "")}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def act(self, path, asked, amount):
        bb = barrier.BranchBarrier(asked["trans_type"], asked["gid"], asked["branch_id"], asked["op"])
        with LEDGER.cursor() as cursor:
            if path == ["query"]:
                bb.query_prepared(cursor)
                return
            kind, account, op = path
            assert asked["op"] == op, asked
            if kind == "barrier":
                bb.call(cursor, lambda cursor: adjust(cursor, account, op, amount))
            else:
                adjust(cursor, account, op, amount)
                cursor.connection.commit()

    def log_message(self, *_):
        pass


def until(what, holds):
    deadline = time.monotonic() + STEP_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {STEP_S} s: {what}"
        time.sleep(0.005)


def transaction(gid):
    return requests.get(f"{DTM}/query", params={"gid": gid}).json()


def ends(gid, status):
    until(f"{gid} is {status}: {transaction(gid)}", lambda: transaction(gid)["transaction"]["status"] == status)


def refused(call):
    try:
        call()
    except utils.DTMFailureError:
        return
    raise AssertionError("it was not refused")


def new_saga(kind, amount, gid=None):
    of = saga.Saga(DTM, gid or utils.gen_gid(DTM))
    for account in ("out", "in"):
        of.add({"amount": amount}, f"{HERE}/{kind}/{account}/action", f"{HERE}/{kind}/{account}/compensate")
    return of


def sagas(kind):
    of = new_saga(kind, 30)
    of.submit()
    ends(of.trans_base.gid, "succeed")
    assert LEDGER.balances() == {"out": 70, "in": 30}, LEDGER.balances()
    of.submit()
    refused(lambda: new_saga(kind, 31, of.trans_base.gid).submit())

    of = new_saga(kind, 10)
    of.trans_base.wait_result = True
    of.submit()
    assert transaction(of.trans_base.gid)["transaction"]["status"] == "succeed"
    assert LEDGER.balances() == {"out": 60, "in": 40}, LEDGER.balances()

    # The second step says no: the first is compensated.
    of = new_saga(kind, 20)
    gid = of.trans_base.gid
    LEDGER.answers[f"/{kind}/in/action"] = 409
    of.trans_base.wait_result = True
    refused(of.submit)
    ends(gid, "failed")
    assert LEDGER.ops(gid)[:2] == [f"/{kind}/out/action", f"/{kind}/in/action"], LEDGER.ops(gid)
    assert f"/{kind}/out/compensate" in LEDGER.ops(gid), LEDGER.ops(gid)
    branches = {(branch["branch_id"], branch["op"]): branch["status"] for branch in transaction(gid)["branches"]}
    assert branches["02", "action"] == "failed" and branches["01", "compensate"] == "succeed", branches
    assert LEDGER.balances() == {"out": 60, "in": 40}, LEDGER.balances()


def concurrent_sagas():
    of = new_saga("plain", 5)
    of.orders, of.concurrent = {}, True
    of.set_concurrent().add_branch_order(1, [0])
    of.submit()
    ends(of.trans_base.gid, "succeed")
    assert LEDGER.ops(of.trans_base.gid) == ["/plain/out/action", "/plain/in/action"]


def tccs(kind):
    def both(amount):
        def call(of):
            for account in ("out", "in"):
                urls = [f"{HERE}/{kind}/{account}/{op}" for op in ("try", "confirm", "cancel")]
                of.call_branch({"amount": amount}, *urls)

        return call

    gid = utils.gen_gid(DTM)
    assert tcc.tcc_global_transaction(DTM, gid, both(30)) == gid
    ends(gid, "succeed")
    assert LEDGER.balances() == {"out": 70, "in": 30}, LEDGER.balances()

    # Not covered: refused by the first try.
    gid = utils.gen_gid(DTM)
    assert tcc.tcc_global_transaction(DTM, gid, both(1000)) == ""
    ends(gid, "failed")
    # A failure of the client's own, after the first try.
    before = LEDGER.balances()

    def breaks(of):
        both(10)(of)
        raise RuntimeError("the client's own trouble")

    gid = utils.gen_gid(DTM)
    assert tcc.tcc_global_transaction(DTM, gid, breaks) == ""
    ends(gid, "failed")
    assert LEDGER.ops(gid).count(f"/{kind}/in/cancel") == 1, LEDGER.ops(gid)
    assert LEDGER.balances() == before, LEDGER.balances()
    refused(lambda: utils.check_result(requests.post(f"{DTM}/submit", json={"gid": gid, "trans_type": "tcc"})))


def new_message(amount):
    of = msg.Msg(DTM, utils.gen_gid(DTM))
    return of.add({"amount": amount}, f"{HERE}/barrier/in/action")


def withdraw(amount):
    return lambda cursor: adjust(cursor, "out", "action", amount)


def messages():
    query = f"{HERE}/query"
    # The client's own transaction, and with it the message.
    of = new_message(30)
    with LEDGER.cursor() as cursor:
        of.do_and_submit_db(query, cursor, withdraw(30))
    ends(of.trans_base.gid, "succeed")
    assert LEDGER.balances() == {"out": 70, "in": 30}, LEDGER.balances()
    # Without any: submitted at once.
    of = new_message(1)
    of.set_wait_result().submit()
    assert LEDGER.balances() == {"out": 70, "in": 31}, LEDGER.balances()
    # Its own transaction refuses: nothing follows.
    of = new_message(1000)
    with LEDGER.cursor() as cursor:
        refused(lambda: of.do_and_submit_db(query, cursor, withdraw(1000)))
    ends(of.trans_base.gid, "failed")
    # It breaks before its commit, and finds out by asking itself.
    of = new_message(10)

    def breaks(bb):
        raise RuntimeError("the client's own trouble")

    try:
        of.do_and_submit(query, breaks)
    except RuntimeError:
        pass
    ends(of.trans_base.gid, "failed")
    # It is gone after its commit: the gateway asks, and goes on.
    of = new_message(10)
    of.trans_base.timeout_to_fail = 1
    of.prepare(query)
    with LEDGER.cursor() as cursor:
        barrier.BranchBarrier("msg", of.trans_base.gid, "00", "msg").call(cursor, withdraw(10))
    ends(of.trans_base.gid, "succeed")
    assert "/query" in LEDGER.ops(of.trans_base.gid), LEDGER.ops(of.trans_base.gid)
    assert LEDGER.balances() == {"out": 60, "in": 41}, LEDGER.balances()
    # It is gone before its commit: the gateway asks, and nothing follows; nor can the client commit any more.
    of = new_message(10)
    of.trans_base.timeout_to_fail = 1
    of.prepare(query)
    ends(of.trans_base.gid, "failed")
    with LEDGER.cursor() as cursor:
        try:
            barrier.BranchBarrier("msg", of.trans_base.gid, "00", "msg").call(cursor, withdraw(10))
            raise AssertionError("a late commit went through")
        except Exception as error:
            assert "msg duplicate" in str(error), error
    refused(of.submit)
    assert LEDGER.balances() == {"out": 60, "in": 41}, LEDGER.balances()


def barriers():
    sagas("barrier")
    # A step whose answer is lost is asked again, and happens once.
    of = new_saga("barrier", 10)
    LEDGER.answers["/barrier/in/action"] = 500
    of.submit()
    ends(of.trans_base.gid, "succeed")
    assert LEDGER.balances() == {"out": 50, "in": 50}, LEDGER.balances()
    asked = {"gid": of.trans_base.gid, "trans_type": "saga", "branch_id": "02", "op": "action"}
    assert requests.post(f"{HERE}/barrier/in/action", params=asked, json={"amount": 10}).status_code == 200
    assert LEDGER.balances() == {"out": 50, "in": 50}, "a duplicate changed the ledger"
    # A try that never arrived is cancelled all the same, which changes nothing; nor does it when it comes late.
    gid = utils.gen_gid(DTM)
    LEDGER.answers["/barrier/out/try"] = 503

    def lost(of):
        of.call_branch({"amount": 10}, *[f"{HERE}/barrier/out/{op}" for op in ("try", "confirm", "cancel")])

    assert tcc.tcc_global_transaction(DTM, gid, lost) == ""
    ends(gid, "failed")
    assert "/barrier/out/cancel" in LEDGER.ops(gid), LEDGER.ops(gid)
    asked = {"gid": gid, "trans_type": "tcc", "branch_id": "01", "op": "try"}
    assert requests.post(f"{HERE}/barrier/out/try", params=asked, json={"amount": 10}).status_code == 200
    assert LEDGER.balances() == {"out": 50, "in": 50}, LEDGER.balances()


LEDGER = Ledger()
SERVER = ThreadingHTTPServer(("127.0.0.1", 0), Participant)
SERVER.daemon_threads = True
HERE = f"http://127.0.0.1:{SERVER.server_address[1]}"
threading.Thread(target=SERVER.serve_forever, daemon=True).start()

if FLOW == "saga":
    sagas("plain")
    concurrent_sagas()
elif FLOW == "tcc":
    tccs("barrier")
elif FLOW == "message":
    messages()
else:
    assert FLOW == "barrier", FLOW
    barriers()
LISTED = requests.get(f"{DTM}/all", params={"limit": 2}).json()
assert len(LISTED["transactions"]) == 2 and LISTED["next_position"], LISTED
print(f"{FLOW}: all holds")
