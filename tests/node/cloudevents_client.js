// npm's cloudevents, unmodified, against the gateway's control listener: batches, and its binary and structured mode.
//
// Arguments: the control listener's host and port. Exits with 0 where everything holds.

const assert = require("node:assert");
const { CloudEvent, HTTP, Mode, emitterFor, httpTransport } = require("cloudevents");

const base = `http://${process.argv[2]}:${process.argv[3]}`;
const BATCH = { "content-type": "application/cloudevents-batch+json" };

function event(id, more) {
  return new CloudEvent({ id, source: "/tests/node", type: "test.batch", subject: "a subject, €", ...more });
}

async function post(path, headers, body) {
  const answer = await fetch(base + path, { method: "POST", headers, body });
  return [answer.status, await answer.json()];
}

async function stored(path) {
  const { events } = await (await fetch(base + path)).json();
  // As a batch, which the client reads with its own checks.
  return HTTP.toEvent({ headers: BATCH, body: JSON.stringify(events) });
}

async function batches() {
  const sent = [
    event("1", { data: { total: 12.5, text: "ü€😀" }, datacontenttype: "application/json" }),
    event("2", { data: "text", datacontenttype: "text/plain", stream: "elsewhere" }),
    event("3", { traceid: "abc", priority: 7, urgent: true }),
  ];
  const [status, { events }] = await post("/events", BATCH, JSON.stringify(sent));
  assert.strictEqual(status, 201);
  const streams = events.map(({ stream, revision }) => `${stream}@${revision}`);
  assert.deepStrictEqual(streams, ["test.batch@0", "elsewhere@0", "test.batch@1"]);
  const [first, third] = await stored("/streams/test.batch");
  assert(first instanceof CloudEvent && first.id === "1" && first.position === "1");
  assert.deepStrictEqual(first.data, sent[0].data);
  assert.strictEqual(first.time, sent[0].time);
  assert.deepStrictEqual([third.traceid, third.priority, third.urgent], ["abc", 7, true]);
  const [again, places] = await post("/events", BATCH, JSON.stringify(sent));
  assert.strictEqual(again, 200);
  assert(places.events.every(({ duplicate }) => duplicate));

  const wrong = JSON.stringify([event("4"), { ...event("5").toJSON(), source: undefined }]);
  const [refused, problem] = await post("/events", BATCH, wrong);
  assert.strictEqual(refused, 422);
  assert.strictEqual(problem.problems[0].pointer, "/1/source");
  assert.strictEqual((await stored("/events")).length, 3);
}

async function modes() {
  for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
    const emit = emitterFor(httpTransport(`${base}/streams/${mode}`), { mode });
    const more = { data: { n: 1 }, datacontenttype: "application/json", traceid: "abc" };
    // It sends headers as they are, so that they can only be ASCII.
    const sent = event("1", { ...more, subject: "plain" });
    const { body } = await emit(sent);
    assert.strictEqual(JSON.parse(body).events[0].stream, mode);
    const [got] = await stored(`/streams/${mode}`);
    assert.deepStrictEqual([got.id, got.traceid, got.data], ["1", "abc", { n: 1 }]);
  }
}

batches().then(modes);
