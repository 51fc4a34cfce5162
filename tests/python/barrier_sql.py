"""The barrier of examples/participants.md, its statements run as they stand there, in every order in which a branch's
operations can come and with copies of them at once.

    barrier_sql.py sqlite|postgresql
"""

import glob
import itertools
import os
import pathlib
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

PAGE = pathlib.Path(__file__).parents[2] / "examples" / "participants.md"
UNDOES = {"abort": "prepare", "cancel": "try", "compensate": "action"}
DEADLINE_S = 30
ROUNDS_AT_ONCE = 20


def statements():
    """The page's SQL by the name in its first line."""
    blocks = re.findall(r"```sql\n-- (\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return {name: text.strip().rstrip(";") for name, text in blocks}


SQL = statements()


class Sqlite:
    """A connection of its own to one file."""

    begin = "BEGIN IMMEDIATE"

    def __init__(self, folder):
        self.connection = sqlite3.connect(folder / "participant.db", timeout=DEADLINE_S, isolation_level=None)

    def run(self, statement, **values):
        """How many rows it changed, or those it has found."""
        cursor = self.connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else cursor.rowcount

    def close(self):
        self.connection.close()


class Psql:
    """A session of psql: PostgreSQL's own client, so that no driver is needed."""

    begin = "BEGIN"

    def __init__(self, folder):
        command = ["psql", "-XqtA", "-h", str(folder), "-U", "postgres", "-d", "postgres"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)

    def run(self, statement, **values):
        quoted = {name: "'" + value.replace("'", "''") + "'" for name, value in values.items()}
        statement = re.sub(r":([a-z_]+)", lambda name: quoted[name.group(1)], statement)
        self.process.stdin.write(f"{statement};\n\\echo end :ROW_COUNT :ERROR\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.startswith("end "):
                _, count, failed = line.split()
                assert failed == "false", f"{statement}: {lines}"
                is_query = statement.startswith("SELECT")
                # Nothing is how psql writes NULL.
                return [tuple(value or None for value in row.split("|")) for row in lines] if is_query else int(count)
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"psql has ended: {statement}: {lines}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)


class PostgresServer:
    """A server of its own, reached by a socket in its folder."""

    def __init__(self, folder):
        installed = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        path = os.pathsep.join([os.environ["PATH"], *installed])
        programs = [shutil.which(name, path=path) for name in ("initdb", "postgres")]
        assert all(programs), "PostgreSQL's initdb and postgres are not installed"
        # It refuses to run as root.
        user = {"user": "postgres"} if os.geteuid() == 0 else {}
        if user:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        data = folder / "data"
        initdb = [programs[0], "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", folder]
        log = open(folder / "log", "w")
        self.process = subprocess.Popen([programs[1], "-D", data, *options], stderr=log, cwd=folder, **user)
        ready = ["pg_isready", "-q", "-h", folder]
        until("PostgreSQL to be ready", lambda: subprocess.run(ready, check=False).returncode == 0)

    def close(self):
        # "Fast": it does not wait for its sessions.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(DEADLINE_S)


def until(what, condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.005)


class Refused(Exception):
    pass


def carry_out(session, gid, op, business):
    """The page's table of what to do, line by line. `business` raises Refused after it has changed something."""
    names = {"gid": gid, "branch_id": "01", "barrier_id": "01"}
    look = lambda row: session.run(SQL["look"], row=row, **names)[0]
    origin = UNDOES.get(op)
    session.run(session.begin)
    origin_is_new = bool(origin) and session.run(SQL["origin"], op=op, origin=origin, **names) == 1
    if session.run(SQL["own"], op=op, **names) == 0:
        reason, refusal = look(op)
        session.run("ROLLBACK")
        return "late" if reason != op else "refused" if refusal else "duplicate"
    if origin_is_new or (origin and look(origin)[1]):
        session.run("COMMIT")
        return "empty"
    session.run("SAVEPOINT business")
    try:
        business(session, gid, op)
    except Refused as why:
        session.run("ROLLBACK TO SAVEPOINT business")
        session.run(SQL["refuse"], op=op, refusal=str(why), **names)
        session.run("COMMIT")
        return "refused"
    session.run("COMMIT")
    return "done"


def change(session, gid, op):
    amount = "- 1" if op in UNDOES else "+ 1"
    session.run(f"UPDATE stock SET held = held {amount} WHERE gid = :gid", gid=gid)


def refuse(session, gid, op):
    change(session, gid, op)
    raise Refused("it's sold out")


def new(session, gid):
    session.run("INSERT INTO stock (gid, held) VALUES (:gid, 0)", gid=gid)
    return gid


def held(session, gid):
    return int(session.run("SELECT held FROM stock WHERE gid = :gid", gid=gid)[0][0])


def every_order(session):
    count = 0
    for undo, begin in UNDOES.items():
        for length in range(1, 5):
            for sequence in itertools.product((begin, undo), repeat=length):
                gid = new(session, f"{begin}-{count}")
                answers = [carry_out(session, gid, op, change) for op in sequence]
                expected = []
                for at, op in enumerate(sequence):
                    before = sequence[:at]
                    if op == begin:
                        first = not before or (expected.count("done") == 0 and "empty" not in expected)
                        expected.append("done" if first else "late" if "empty" in expected else "duplicate")
                    else:
                        again = undo in before
                        expected.append("duplicate" if again else "done" if begin in before else "empty")
                assert answers == expected, (sequence, answers, expected)
                left = 1 if sequence[0] == begin and undo not in sequence else 0
                assert held(session, gid) == left, (sequence, answers)
                count += 1
    return count


def refusals(session):
    for undo, begin in UNDOES.items():
        gid = new(session, f"refused-{begin}")
        answers = [carry_out(session, gid, begin, refuse)]
        answers += [carry_out(session, gid, op, change) for op in (begin, undo, begin)]
        assert answers == ["refused", "refused", "empty", "refused"], answers
        assert held(session, gid) == 0


def at_once(connect):
    """A try and its cancel, two copies of each."""
    looker = connect()
    for number in range(ROUNDS_AT_ONCE):
        gid = new(looker, f"at-once-{number}")
        answers = []

        def one(op):
            session = connect()
            answers.append(carry_out(session, gid, op, change))
            session.close()

        threads = [threading.Thread(target=one, args=(op,)) for op in ("try", "cancel", "try", "cancel")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert held(looker, gid) == 0, answers
        # Either the first try and a cancel after it, or a cancel first and no try at all.
        assert sorted(answers) in (["done", "done", "duplicate", "duplicate"], ["duplicate", "empty", "late", "late"]), answers
    looker.close()


def the_second_waits_for_the_first(connect):
    """PostgreSQL's lock on a row that is not committed yet: a cancel waits for the try that is under way."""
    for ends, answer, left in (("COMMIT", "done", 0), ("ROLLBACK", "empty", 0)):
        first, second, looker = connect(), connect(), connect()
        gid = new(looker, f"waits-{ends}")
        first.run(first.begin)
        first.run(SQL["own"], gid=gid, branch_id="01", barrier_id="01", op="try")
        change(first, gid, "try")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(carry_out(second, gid, "cancel", change)))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until("the cancel to wait", lambda: looker.run(waiting) == [("1",)])
        first.run(ends)
        thread.join(DEADLINE_S)
        assert (answers, held(looker, gid)) == ([answer], left), answers
        for session in (first, second, looker):
            session.close()


def main():
    kind = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = PostgresServer(folder) if kind == "postgresql" else None
        connect = lambda: Psql(folder) if server else Sqlite(folder)
        try:
            session = connect()
            session.run(SQL["table"])
            session.run("CREATE TABLE stock (gid VARCHAR(128) PRIMARY KEY, held INTEGER NOT NULL)")
            orders = every_order(session)
            refusals(session)
            at_once(connect)
            if server:
                the_second_waits_for_the_first(connect)
            session.close()
        finally:
            if server:
                server.close()
    print(f"{kind}: {orders} orders")


main()
