// npm's consul, unmodified, against the gateway's control listener.
//
// Arguments: the control listener's host and port. Exits with 0 where everything holds; prints how long a blocking
// query took to be woken, from the answer to the change, in milliseconds.

const assert = require("node:assert");
const Consul = require("consul");

const [host, port] = [process.argv[2], Number(process.argv[3])];
const ROUNDS = 15;
const WOKEN_MS_MAX = 50;
// A step that takes longer hangs.
const STEP_MS = 20000;

const consul = new Consul({ host, port });

async function waitingQueries() {
  const page = await (await fetch(`http://${host}:${port}/metrics`)).text();
  const line = page.split("\n").find((line) => line.startsWith("sluice_registry_waiting_queries "));
  return Number(line.split(" ")[1]);
}

async function until(what, holds) {
  const deadline = Date.now() + STEP_MS;
  while (!(await holds())) {
    assert(Date.now() < deadline, `not within ${STEP_MS} ms: ${what}`);
  }
}

async function lifeOfAService() {
  await consul.agent.service.register({
    name: "api",
    id: "api-1",
    address: "10.0.0.8",
    port: 9090,
    tags: ["green"],
    meta: { version: "3" },
    check: { ttl: "10m", notes: "tells by itself", deregistercriticalserviceafter: "10m" },
  });
  assert.deepStrictEqual(await consul.health.service({ service: "api", passing: true }), []);
  await consul.agent.check.pass({ id: "service:api-1", note: "all is well" });
  const [entry] = await consul.health.service({ service: "api", passing: true, tag: "green" });
  assert.strictEqual(entry.Service.Port, 9090);
  assert.deepStrictEqual(entry.Service.Meta, { version: "3" });
  assert.strictEqual(entry.Checks.find((check) => check.CheckID === "service:api-1").Output, "all is well");
  assert.deepStrictEqual(await consul.catalog.service.list(), { api: ["green"] });
  assert.strictEqual((await consul.catalog.service.nodes("api"))[0].ServiceAddress, "10.0.0.8");
  assert.strictEqual((await consul.agent.service.list())["api-1"].Service, "api");
  assert.strictEqual((await consul.health.state("critical")).length, 0);
  assert.strictEqual(await consul.status.leader(), `${host}:${port}`);
  await consul.agent.service.maintenance({ id: "api-1", enable: true, reason: "a new disk" });
  assert.deepStrictEqual(await consul.health.service({ service: "api", passing: true }), []);
  await consul.agent.service.maintenance({ id: "api-1", enable: false });
  assert.strictEqual((await consul.health.service({ service: "api", passing: true })).length, 1);
}

// The client's own watch: blocking queries one behind the other.
async function watchesAreWoken() {
  const watch = consul.watch({ method: consul.health.service, options: { service: "api", passing: true } });
  let changed = null;
  watch.on("error", (error) => {
    throw error;
  });
  watch.on("change", (entries) => {
    const resolve = changed;
    changed = null;
    if (resolve) resolve([performance.now(), entries.length]);
  });
  const woken = [];
  for (let round = 0; round < ROUNDS; round++) {
    await until("the watch waits", async () => (await waitingQueries()) === 1);
    const heard = new Promise((resolve) => (changed = resolve));
    const report = round % 2 === 0 ? consul.agent.check.fail : consul.agent.check.pass;
    await report.call(consul.agent.check, "service:api-1");
    const answered = performance.now();
    const [at, count] = await heard;
    assert.strictEqual(count, round % 2);
    woken.push(at - answered);
  }
  watch.end();
  woken.sort((one, other) => one - other);
  const median = woken[Math.floor(woken.length / 2)];
  console.log(`consul (npm): woken after ${median.toFixed(1)} ms (median), ${woken.at(-1).toFixed(1)} ms (longest)`);
  // The faster ones: what a busy machine adds to the others is not the gateway's.
  assert(woken[Math.floor(woken.length / 4)] <= WOKEN_MS_MAX, `${woken}`);
}

async function endOfAService() {
  await consul.agent.service.deregister("api-1");
  assert.deepStrictEqual(await consul.catalog.service.list(), {});
  await assert.rejects(consul.agent.check.pass("service:api-1"), /Unknown check ID|not found/i);
}

lifeOfAService()
  .then(watchesAreWoken)
  .then(endOfAService)
  .then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
