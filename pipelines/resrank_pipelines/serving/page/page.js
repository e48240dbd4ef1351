"use strict";
// Everything that comes from the store is set as text, never as HTML.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const LONG = 400; // characters, beyond which a passage is folded
const FIGURE = { width: 30, height: 24, ranks: 100 };
let running = null;

function make(kind, className, text) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function status(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function sourceOf(item) {
  const { title, file_path: path, split_id: chunk } = item.meta || {};
  if (title) return String(title);
  if (!path) return String(item.id).slice(0, 12);
  const name = String(path).split(/[\\/]/).slice(-2).join("/");
  return chunk === undefined || chunk === null ? name : `${name}#${chunk}`;
}

// A line from the rank of the first stage, on the left, to the final one; up is better, and the first ranks are far apart.
function figure(before, after) {
  const svg = document.createElementNS(SVG, "svg");
  const { width, height, ranks } = FIGURE;
  const y = (rank) => 3 + Math.log(Math.min(rank, ranks)) / Math.log(ranks) * (height - 6);
  const set = (kind, values) => {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(values)) made.setAttribute(name, String(value));
    svg.append(made);
  };
  svg.setAttribute("width", String(width));
  svg.setAttribute("height", String(height));
  svg.setAttribute("aria-hidden", "true");
  set("line", { x1: 3, y1: y(before), x2: width - 3, y2: y(after) });
  set("circle", { cx: width - 3, cy: y(after), r: 3 });
  return svg;
}

function passage(content) {
  const text = make("p", "text", content);
  if (content.length <= LONG) return [text];
  text.classList.add("short");
  const more = make("button", "more", "Show all");
  more.type = "button";
  more.addEventListener("click", () => {
    more.textContent = text.classList.toggle("short") ? "Show all" : "Show less";
  });
  return [text, more];
}

function result(item) {
  const row = make("li");
  const head = make("div", "head");
  const before = item.retrieval_rank;
  const moved = before ? before - item.rank : 0;
  const way = make("span", moved > 0 ? "up" : moved < 0 ? "down" : "");
  if (before) {
    way.textContent = moved ? `${moved > 0 ? "▲" : "▼"} ${Math.abs(moved)}, was ${before}` : `= ${before}`;
    way.title = `rank ${before} before reranking, ${item.rank} after`;
  }
  head.append(make("span", "rank", String(item.rank)));
  if (before) {
    const drawn = make("span", way.className);
    drawn.append(figure(before, item.rank));
    head.append(drawn, way);
  }
  if (item.score !== null) head.append(make("span", "score", `score ${item.score.toFixed(3)}`));
  head.append(make("span", "source", sourceOf(item)));
  row.append(head, ...passage(item.content || ""));
  return row;
}

function marked(source) {
  const text = make("p", "text");
  const characters = Array.from(source.content || ""); // places are in Unicode characters, not in UTF-16 units
  if (Number.isInteger(source.start)) {
    const found = characters.slice(source.start, source.end).join("");
    text.append(characters.slice(0, source.start).join(""), make("mark", "", found), characters.slice(source.end).join(""));
  } else {
    text.append(source.content || "");
  }
  return text;
}

function showAnswer(body) {
  const box = $("answer");
  box.replaceChildren();
  box.hidden = false;
  box.append(body.answer === null ? make("p", "said none", "No answer found.") : make("p", "said", body.answer));
  if (body.confidence !== null) box.append(make("div", "head", `confidence ${body.confidence.toFixed(2)}`));
  const sources = body.citations.length ? body.citations : body.source ? [body.source] : [];
  for (const source of sources) {
    const number = source.number ? `[${source.number}] ` : "";
    box.append(make("div", "source", number + sourceOf(source)), marked(source));
  }
}

function showTimings(body) {
  const t = body.timings;
  const parts = [["encode", t.encode_ms], ["rank", t.rank_ms], ["other", t.other_ms]];
  const told = parts.map(([name, value]) => `${name} ${Math.round(value)}`).join(", ");
  const count = body.results.length;
  status([`${count} passage${count === 1 ? "" : "s"} in ${Math.round(t.total_ms)} ms (${told})`, ...body.warnings].join("; "));
}

async function send(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const token = $("token").value || sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  });
  if (response.ok) {
    if (token) sessionStorage.setItem("token", token);
    return response;
  }
  if (response.status === 401) {
    sessionStorage.removeItem("token");
    $("token_row").hidden = false;
    $("token").focus();
  }
  const said = await response.json().catch(() => null);
  throw new Error(said && said.error ? said.error.message : `the server answered ${response.status}`);
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const [name, data] = block.split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

async function ask(query, topK, signal) {
  let text = "";
  for await (const [name, body] of events(await send("v1/ask", { query, top_k: topK, stream: true }, signal))) {
    if (name === "error") throw new Error(body.error.message);
    if (name === "answer") return body;
    text += body.text;
    $("answer").hidden = false;
    $("answer").replaceChildren(make("p", "said", text));
  }
  throw new Error("the answer ended before it was complete");
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) running.abort();
  const mine = running = new AbortController();
  const query = $("query").value;
  const asking = new FormData($("form")).get("mode") === "ask";
  const topK = Number($("top_k").value);
  $("answer").hidden = true;
  $("answer").replaceChildren();
  $("results").replaceChildren();
  status(asking ? "Reading…" : "Searching…");
  try {
    const body = asking
      ? await ask(query, topK, mine.signal)
      : await (await send("v1/search", { query, top_k: topK }, mine.signal)).json();
    if (asking) showAnswer(body);
    $("results").replaceChildren(...body.results.map(result));
    showTimings(body);
  } catch (error) {
    if (error.name === "AbortError") return;
    $("results").replaceChildren();
    status(error.message, true);
  } finally {
    if (running === mine) running = null;
  }
});
