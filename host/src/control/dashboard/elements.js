"use strict";

// Numbers as text, and elements of the page: what the views are made of.

const SPARK_POINTS = 60;

// ---- numbers ----------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const count = (n) => whole.format(n ?? 0);
const short = (n) => (Math.abs(n) < 10 ? oneDigit : whole).format(n);
const percent = (share) => (Number.isFinite(share) ? `${oneDigit.format(share * 100)} %` : "–");

function micros(us) {
  if (!us) return "–";
  if (us < 1000) return `${short(us)} µs`;
  return us < 1e6 ? `${short(us / 1e3)} ms` : `${short(us / 1e6)} s`;
}

function bytes(n) {
  if (!n) return "–";
  if (n < 1024) return `${n} B`;
  return n < 1 << 20 ? `${short(n / 1024)} KiB` : `${short(n / (1 << 20))} MiB`;
}

const time = (rfc3339) => new Date(rfc3339).toLocaleTimeString("en-GB");

/** What totals that only grow did since the last poll, and the rates of the last minute. */
const meters = new Map();

function rate(key, total, now) {
  const last = meters.get(key);
  const perSecond = last && total >= last.total ? ((total - last.total) * 1000) / (now - last.at) : 0;
  const history = last ? [...last.history, perSecond].slice(-SPARK_POINTS) : [];
  meters.set(key, { at: now, total, history });
  return perSecond;
}

/** The mean of what was measured since the last poll, from a mean over all time; of all time where nothing was. */
function recentMean(key, summary, now) {
  const { count: n = 0, mean_us: mean = 0 } = summary ?? {};
  const last = meters.get(key);
  const sum = n * mean;
  const recent = last && n > last.n ? (sum - last.sum) / (n - last.n) : (last?.mean ?? mean);
  meters.set(key, { at: now, n, sum, mean: recent });
  return recent;
}

/** What is not shown any more needs no memory. */
function forget(now) {
  for (const [key, meter] of meters) if (meter.at !== now) meters.delete(key);
}

// ---- the page ---------------------------------------------------------------------------------------------

/** An element. Properties are attributes; false and undefined ones are left out. */
function h(name, properties, ...children) {
  const svg = name === "svg" || name === "path";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes `live` like `next` and keeps what stays: focus, selection, a button that is just being pressed. */
function morph(live, next) {
  if (live.nodeType === Node.TEXT_NODE) {
    if (live.data !== next.data) live.data = next.data;
    return;
  }
  for (const { name } of [...live.attributes]) if (!next.hasAttribute(name)) live.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  }
  const before = [...live.childNodes];
  const after = [...next.childNodes];
  after.forEach((node, index) => {
    const old = before[index];
    if (!old) live.append(node);
    else if (old.nodeName === node.nodeName && old.dataset?.key === node.dataset?.key) morph(old, node);
    else old.replaceWith(node);
  });
  before.slice(after.length).forEach((node) => node.remove());
}

/** Columns are [title, cell of a row, class]. */
function table(rows, key, columns) {
  const cell = (tag, [title, value, style], row) => h(tag, { class: style }, tag === "th" ? title : value(row));
  return h("div", { class: "scroll" },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column) => cell("th", column)))),
      h("tbody", {}, rows.map((row) =>
        h("tr", { "data-key": key(row) }, columns.map((column) => cell("td", column, row)))))));
}

function spark(key) {
  const values = meters.get(key)?.history ?? [];
  const top = Math.max(1, ...values);
  const at = (value, index) => `${SPARK_POINTS - values.length + index},${(30 - (28 * value) / top).toFixed(1)}`;
  const svg = h("svg", { class: "spark", viewBox: `0 0 ${SPARK_POINTS - 1} 31`, preserveAspectRatio: "none" },
    values.length > 1 && h("path", { d: `M${values.map(at).join("L")}` }));
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

const dot = (good, text) => h("span", { class: good ? "good" : "bad" }, h("span", { class: "dot" }), text);
const figure = (value, unit) => h("span", { class: "figure" }, h("b", {}, value), ` ${unit}`);
const bad = (n) => h("span", { class: n > 0 ? "bad" : "faint" }, count(n));

/** Red for a minute after it has grown: an old failure is no alarm. */
function recentlyBad(key, n, now) {
  rate(key, n, now);
  const grew = meters.get(key).history.some((perSecond) => perSecond > 0);
  return h("span", { class: grew ? "bad" : n > 0 ? "" : "faint" }, count(n));
}
