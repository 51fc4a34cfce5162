"use strict";

// Asks the control API once a second and shows what it says. Everything is text nodes and attributes, never
// markup: names and messages come from plugins and configuration.

const POLL_MS = 1000;
const REQUEST_TIMEOUT_MS = 5000;
const CHANGE_TIMEOUT_MS = 60000;
const ENTRIES_SHOWN = 50;
const HAZARDS = "/transactions?status=hazard&limit=20";
// To find them many transactions are looked through.
const HAZARDS_EVERY_POLLS = 10;

const byId = (id) => document.getElementById(id);

// ---- the API ----------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, problem) {
    const details = (problem.problems ?? []).map((p) => `${p.service ?? ""} ${p.pointer ?? ""}: ${p.message}`.trim());
    super([problem.detail ?? problem.title ?? `status ${status}`, ...details].join("\n"));
    this.status = status;
  }
}

async function call(method, path, body) {
  const headers = { accept: "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(method === "GET" ? REQUEST_TIMEOUT_MS : CHANGE_TIMEOUT_MS),
  });
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Not from the API itself: the status says what there is to say.
  }
  throw new Refused(answer.status, problem);
}

// ---- the views --------------------------------------------------------------------------------------------

/** A button for a change. What it does stands in its data, so that the page may be redrawn around it. */
function button(text, question, method, path, body) {
  const change = JSON.stringify({ question, method, path, body });
  return h("button", { type: "button", "data-change": change, disabled: busy.has(change) }, text);
}

function serviceCard(service, now) {
  const { name, balancer } = service;
  const perSecond = rate(`service ${name}`, service.attempts, now);
  return h("article", { "data-key": name },
    h("div", { class: "head" },
      h("h3", {}, name),
      h("span", { class: "chip on" }, `${balancer.plugin} `, h("code", {}, balancer.version)),
      h("span", { class: "chip" }, `from the ${SOURCES[balancer.source]}`),
      balancer.overlaid && button(`back to ${balancer.overlaid.plugin}`,
        `Service ${name}: forget what was set over the API, and go back to ${balancer.overlaid.plugin}?`,
        "DELETE", `/services/${name}/overlay`),
      figure(short(perSecond), "attempts/s")),
    Object.keys(balancer.settings).length > 0 && h("code", { class: "faint" }, JSON.stringify(balancer.settings)),
    spark(`service ${name}`),
    service.instances.filter(({ state }) => state === "fallback").map(illInstance),
    service.unresolved.map((problem) => h("p", { class: "bad" }, problem)),
    service.waiting > 0 && h("p", { class: "warn" }, `${service.waiting} endpoints wait for others to drain`),
    endpointTable(service, now),
    service.canary && canaryBlock(balancer.plugin, service.canary, service.canary.services));
}

const SOURCES = { file: "file", overlay: "API", default: "gateway's defaults" };

function illInstance({ worker, version, fault, faults, restart_in_ms: wait }) {
  const again = wait > 0 ? `, again in ${micros(wait * 1000)}` : "";
  return h("p", { class: "bad" }, `worker ${worker}: the gateway decides natively, version ${version} failed ` +
    `(${count(faults)} in a row${again}): ${fault}`);
}

function endpointTable({ name, endpoints }, now) {
  if (endpoints.length === 0) return h("p", { class: "bad" }, "no endpoint: requests are answered 503");
  return table(endpoints, (endpoint) => endpoint.slot, [
    ["endpoint", (e) => h("code", { title: e.configured !== e.address && e.address }, e.configured), "l"],
    ["", (e) => (e.available ? dot(true, "up") : dot(false, "out")), "l"],
    ["weight", (e) => count(e.weight)],
    ["in flight", (e) => count(e.in_flight)],
    ["per second", (e) => short(rate(`endpoint ${name} ${e.address}`, e.attempts, now))],
    ["mean", (e) => micros(recentMean(`latency ${name} ${e.address}`, e.first_byte, now))],
    ["p99", (e) => micros(e.first_byte.p99_us)],
    ["failed", (e) => recentlyBad(`failures ${name} ${e.address}`, e.failures, now)],
  ]);
}

function canaryBlock(plugin, canary, services) {
  const arms = services.flatMap(({ incumbent, candidate }) => [
    { role: "in use", ...incumbent },
    { role: `${canary.percent} %`, worse: candidate.error_rate > incumbent.error_rate, ...candidate },
  ]);
  return h("div", { class: "canary" },
    h("div", { class: "head" },
      h("span", { class: "warn" }, `canary of ${plugin}`),
      h("span", { class: "faint" }, `since ${time(canary.started_at)}`),
      button("use it for all", `Use version ${canary.version} of ${plugin} for all requests?`,
        "POST", `/plugins/${plugin}/activate`, { version: canary.version }),
      button("end it", `End the canary of ${plugin}?`, "DELETE", `/plugins/${plugin}/canary`)),
    table(arms, (arm) => arm.version, [
      ["version", (arm) => [h("code", {}, arm.version), ` ${arm.role}`], "l"],
      ["attempts", (arm) => count(arm.attempts)],
      ["failed", (arm) => h("span", { class: arm.worse ? "bad" : "" }, percent(arm.error_rate))],
      ["mean", (arm) => micros(arm.latency.mean_us)],
      ["p99", (arm) => micros(arm.latency.p99_us)],
      ["traps", (arm) => bad(arm.traps)],
      ["overruns", (arm) => bad(arm.deadline_overruns + arm.memory_overruns)],
      ["fallbacks", (arm) => bad(arm.fallbacks)],
    ]));
}

/** What a plugin's version did, for all services together: in use since the start, on trial since the canary began. */
function workOf(plugin, version, services) {
  const arms = services.filter(({ balancer }) => balancer.plugin === plugin).flatMap((service) => [
    service.plugin, ...(service.canary?.services ?? []).map(({ candidate }) => candidate)]);
  const work = { picks: 0, traps: 0, overruns: 0, invalid: 0, fallbacks: 0 };
  for (const arm of arms.filter((arm) => arm.version === version)) {
    work.picks += arm.picks;
    work.traps += arm.traps;
    work.overruns += arm.deadline_overruns + arm.memory_overruns;
    work.invalid += arm.invalid_answers;
    work.fallbacks += arm.fallbacks;
  }
  return work;
}

function pluginTable({ plugins, services, projections }, now) {
  const rows = plugins.flatMap((plugin) => plugin.versions.map((version, index) =>
    ({ ...version, plugin, first: index === 0, work: workOf(plugin.name, version.version, services),
      users: usersOf(plugin, projections) })));
  const key = ({ plugin, version }) => `${plugin.name} ${version}`;
  const idle = (v) => v.live_instances === 0 && v.work.picks === 0;
  const unlessIdle = (show) => (v) => (idle(v) ? "" : show(v));
  return table(rows, key, [
    ["plugin", (v) => v.first && h("b", {}, v.plugin.name), "l"],
    ["version", (v) => h("code", {}, v.version), "l"],
    ["", (v) => versionUse(v), "l"],
    ["used by", (v) => v.use === "active" && v.users.join(", "), "l"],
    ["calls/s", unlessIdle((v) => short(rate(`calls ${key(v)}`, v.work.picks, now)))],
    ["calls", unlessIdle((v) => count(v.work.picks))],
    ["traps", unlessIdle((v) => bad(v.work.traps))],
    ["overruns", unlessIdle((v) => bad(v.work.overruns))],
    ["invalid", unlessIdle((v) => bad(v.work.invalid))],
    ["fallbacks", unlessIdle((v) => bad(v.work.fallbacks))],
    ["instances", unlessIdle((v) => count(v.live_instances))],
    ["memory", unlessIdle((v) => bytes(v.memory_bytes))],
  ]);
}

/** Services, protocols of transactions, and event handlers. */
function usersOf({ name, services, protocols }, projections) {
  const handlers = projections.filter(({ plugin }) => plugin === name).map((projection) => projection.name);
  return [...services, ...protocols, ...handlers];
}

function versionUse({ plugin, version, use, users }) {
  const { name, previous } = plugin;
  if (use === "active" && users.length === 0) return h("span", { class: "faint" }, "ready");
  switch (use) {
    case "active": return [dot(true, "in use "), previous.length > 0 && button("roll back",
      `Roll ${name} back to version ${previous.at(-1)}?`, "POST", `/plugins/${name}/rollback`, {})];
    case "candidate": return h("span", { class: "warn" }, "on trial");
    case "retired": return h("span", { class: "faint" }, "going");
    default: return button("activate", `Use version ${version} of ${name} for every service bound to it?`,
      "POST", `/plugins/${name}/activate`, { version });
  }
}

const BAD_ENTRIES = new Set(["refused", "fault", "canary-withdrawn", "rolled-back", "warning", "hazard"]);

function history(entries) {
  return h("ol", { class: "history" }, entries.slice(0, ENTRIES_SHOWN).map((entry) =>
    h("li", { "data-key": entry.number },
      h("time", { class: "faint", datetime: entry.at }, time(entry.at)),
      h("span", { class: BAD_ENTRIES.has(entry.kind) ? "bad" : "" }, entry.kind.replaceAll("-", " ")),
      h("span", {}, entry.message))));
}

/** What has become of transactions since the start, and those that wait for an operator. */
function transactionPanel({ figures, transactions, next }) {
  const { live, succeeded, failed, stopped } = figures;
  const hazards = table(transactions, (it) => it.gid, [
    ["in hazard", (it) => h("code", {}, it.gid), "l"],
    ["protocol", (it) => it.protocol, "l"],
    ["since", (it) => time(it.updated_at), "l"],
    ["why", (it) => h("span", { class: "bad" }, it.hazard), "l"],
    ["", (it) => button("retry", `Transaction ${it.gid}: go on and try again?`,
      "POST", `/transactions/${it.gid}/retry`, {})],
    ["", (it) => button("stop", `Transaction ${it.gid}: call nothing more? Its participants may disagree.`,
      "POST", `/transactions/${it.gid}/stop`, {})],
  ]);
  return [
    h("div", { class: "head" }, figure(count(live), "under way"), figure(count(succeeded), "succeeded"),
      figure(count(failed), "failed"), figure(count(stopped), "stopped")),
    transactions.length > 0 && hazards,
    next !== null && h("p", { class: "faint" }, "only the newest are looked through for hazards"),
  ];
}

/** How far the log has come, and what follows it. */
function eventPanel({ log, projections }, now) {
  const perSecond = rate("events", log.appended, now);
  const followers = table(projections, (it) => it.name, [
    ["projection", (it) => h("b", {}, it.name), "l"],
    ["", (it) => projectionStatus(it), "l"],
    ["plugin", (it) => it.plugin && [`${it.plugin} `, h("code", {}, it.version)], "l"],
    ["handled", (it) => count(it.handled)],
    ["lag", (it) => count(it.lag)],
    ["parked", (it) => bad(it.parked)],
    ["calls waiting", (it) => count(it.calls.waiting)],
    ["calls parked", (it) => bad(it.calls.parked)],
    ["state", (it) => bytes(it.state_bytes)],
    ["", (it) => button("rebuild", `Projection ${it.name}: build its state anew from the log? The one in use is read ` +
      "until then, and no effect is repeated.", "POST", `/projections/${it.name}/rebuild`, {})],
  ]);
  return [
    h("div", { class: "head" }, figure(count(log.head), "is the last position"), figure(short(perSecond), "appended/s"),
      figure(count(log.subscribers), "subscribers")),
    spark("events"),
    projections.length > 0 && followers,
  ];
}

function projectionStatus({ status, reason, rebuilding, refused }) {
  const good = ["starting", "following"].includes(status);
  return [
    h("span", { title: reason ?? false }, dot(good, status)),
    rebuilding && h("span", { class: "warn" }, ` ${rebuilding.version} at ${rebuilding.percent} %`),
    refused && h("span", { class: "bad", title: refused.reason }, ` ${refused.version} was refused`),
  ];
}

function listenerTable(listeners) {
  return table(listeners, (listener) => listener.address, [
    ["listener", (l) => h("code", {}, l.address), "l"],
    ["as configured", (l) => h("code", { class: "faint" }, l.configured), "l"],
  ]);
}

function summary(services) {
  const perSecond = services.reduce((sum, { name }) => sum + (meters.get(`service ${name}`).history.at(-1) ?? 0), 0);
  const inFlight = services.reduce((sum, service) => sum + service.in_flight, 0);
  return `${short(perSecond)} attempts/s, ${count(inFlight)} requests in flight`;
}

function page(shown, now) {
  const { listeners, services, entries } = shown;
  const section = (title, content, style) => [h("h2", {}, title), h("section", { class: style }, content)];
  return h("main", { id: "main" },
    section("Services", services.map((service) => serviceCard(service, now)), "cards"),
    section("Plugin versions", pluginTable(shown, now), "panel"),
    section("Transactions", transactionPanel(shown), "panel"),
    section("Events", eventPanel(shown, now), "panel"),
    section("History", entries.length > 0 ? history(entries) : "nothing yet", "panel"),
    section("Listeners", listenerTable(listeners), "panel"));
}

// ---- life -------------------------------------------------------------------------------------------------

const busy = new Set();
let timer;
let polls = 0;
let hazards;

async function poll() {
  clearTimeout(timer);
  try {
    const answers = await Promise.all(
      ["/listeners", "/services", "/plugins", "/history", "/protocols", "/projections"].map((path) => call("GET", path)));
    if (polls++ % HAZARDS_EVERY_POLLS === 0) hazards = await call("GET", HAZARDS);
    const now = performance.now();
    const shown = Object.assign({}, ...answers, hazards);
    morph(byId("main"), page(shown, now));
    byId("totals").textContent = summary(shown.services);
    forget(now);
    status(true, "live");
    byId("token").hidden = true;
  } catch (error) {
    const unknown = error instanceof Refused && [401, 403].includes(error.status);
    byId("token").hidden = !unknown;
    status(false, unknown ? "the gateway wants a token" : `no answer from the gateway (${error.message})`);
  }
  if (!document.hidden) timer = setTimeout(poll, POLL_MS);
}

function status(good, text) {
  morph(byId("status"), h("p", { id: "status", role: "status" }, dot(good, text)));
}

function say(good, text) {
  const said = byId("said");
  said.className = good ? "good" : "bad";
  said.textContent = text;
  said.hidden = false;
}

async function change(button) {
  const text = button.dataset.change;
  const { question, method, path, body } = JSON.parse(text);
  if (busy.has(text) || !confirm(question)) return;
  busy.add(text);
  button.disabled = true;
  try {
    const applied = await call(method, path, body);
    const gaps = (applied?.workers ?? []).map(({ gap_us }) => micros(gap_us)).join(", ");
    say(true, ["Done.", gaps && `Every worker has adopted it (${gaps} of CPU).`, ...(applied?.warnings ?? [])].join(" "));
  } catch (error) {
    say(false, `Nothing has changed: ${error.message}`);
  }
  busy.delete(text);
  polls = 0;
  await poll();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-change]");
  if (button) change(button);
});
document.addEventListener("visibilitychange", () => document.hidden || poll());
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", new FormData(event.target).get("token"));
  event.target.reset();
  poll();
});
poll();
