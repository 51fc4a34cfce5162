"""A gRPC server and client from another hand (grpcio), with the gateway between them.

Prints the server's port, reads the gateway's address, runs one check by name, and exits with 0 where it holds.
"""

import sys
import threading
from concurrent import futures

import grpc

SERVICE = "test.Echo"
LARGE = b"x" * (3 << 20)

# A call that takes longer hangs.
CALL_S = 20


class Server:
    """The methods; messages are plain bytes."""

    def __init__(self):
        self.began = threading.Event()
        self.cancelled = threading.Event()

    def unary(self, request, context):
        sent = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-trailing", sent.get("x-leading", "none")),))
        return request[::-1]

    def answers_many(self, request, context):
        yield from (b"%d" % number for number in range(int(request)))

    def takes_many(self, requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def both_ways(self, requests, context):
        for request in requests:
            yield request.upper()

    def never(self, request, context):
        self.began.set()
        if not context.add_callback(self.cancelled.set):
            # It was cancelled before it came to that.
            self.cancelled.set()
        self.cancelled.wait(CALL_S)
        return b""

    def refuses(self, request, context):
        context.set_trailing_metadata((("x-reason", "told to"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: % and ünicode")

    def handlers(self):
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "AnswersMany": grpc.unary_stream_rpc_method_handler(self.answers_many),
                "TakesMany": grpc.stream_unary_rpc_method_handler(self.takes_many),
                "BothWays": grpc.stream_stream_rpc_method_handler(self.both_ways),
                "Never": grpc.unary_unary_rpc_method_handler(self.never),
                "Refuses": grpc.unary_unary_rpc_method_handler(self.refuses),
            },
        )


def unary(channel, server):
    call = channel.unary_unary(f"/{SERVICE}/Unary")
    answer, done = call.with_call(b"abc", metadata=(("x-leading", "7"),), timeout=CALL_S)
    assert answer == b"cba", answer
    assert dict(done.trailing_metadata())["x-trailing"] == "7", done.trailing_metadata()
    assert done.code() == grpc.StatusCode.OK, done.code()
    assert call(LARGE, timeout=CALL_S) == LARGE[::-1]
    assert call(b"", timeout=CALL_S) == b""


def server_stream(channel, server):
    answers = list(channel.unary_stream(f"/{SERVICE}/AnswersMany")(b"1000", timeout=CALL_S))
    assert answers == [b"%d" % number for number in range(1000)], len(answers)


def client_stream(channel, server):
    pieces = (b"x" * size for size in range(1000))
    assert channel.stream_unary(f"/{SERVICE}/TakesMany")(pieces, timeout=CALL_S) == b"%d" % sum(range(1000))


def both_streams(channel, server):
    """Each message is sent only when the one before has come back: nothing may be held back on the way."""
    turn = threading.Semaphore(1)

    def requests():
        for number in range(50):
            turn.acquire()
            yield b"ping %d" % number

    number = 0
    for answer in channel.stream_stream(f"/{SERVICE}/BothWays")(requests(), timeout=CALL_S):
        assert answer == b"PING %d" % number, answer
        number += 1
        turn.release()
    assert number == 50, number


def deadline(channel, server):
    # A machine that is busy may take longer than the shortest of them to begin.
    for timeout in (0.3, 3, CALL_S / 2):
        code = refusal(lambda: channel.unary_unary(f"/{SERVICE}/Never")(b"", timeout=timeout)).code()
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
        if server.began.is_set():
            break
    assert server.cancelled.wait(CALL_S), "the server was not told that nobody waits any more"


def trailers_only_error(channel, server):
    error = refusal(lambda: channel.unary_unary(f"/{SERVICE}/Refuses")(b"", timeout=CALL_S))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error.code()
    assert error.details() == "no: % and ünicode", error.details()
    assert dict(error.trailing_metadata())["x-reason"] == "told to", error.trailing_metadata()


def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call should have failed")


CHECKS = [unary, server_stream, client_stream, both_streams, deadline, trailers_only_error]


def main():
    check = {check.__name__: check for check in CHECKS}[sys.argv[1]]
    own = Server()
    limits = [("grpc.max_receive_message_length", 8 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=limits)
    server.add_generic_rpc_handlers((own.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    gateway = sys.stdin.readline().strip()
    with grpc.insecure_channel(gateway, options=[*limits, ("grpc.enable_http_proxy", 0)]) as channel:
        check(channel, own)
    server.stop(None).wait()


if __name__ == "__main__":
    main()
