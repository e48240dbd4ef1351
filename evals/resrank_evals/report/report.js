"use strict";
(() => {
  const SCALE = 10000; // values are written as ten-thousandths
  const FIRST = 25; // rows shown before "show all"
  const SVG = "http://www.w3.org/2000/svg";
  const get = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(get(id).textContent);
  const index = read("index");
  const blocks = new Map();
  const view = { rows: [], key: "difference", descending: true, all: false };

  const shown = (value) => (value / SCALE).toFixed(3);
  const signed = (value) => {
    const text = Math.abs(value / SCALE).toFixed(3);
    return Number(text) === 0 ? text : (value < 0 ? "\u2212" : "+") + text;
  };
  const counted = (count) => count.toLocaleString("en");
  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const fill = (select, options, chosen) => {
    select.replaceChildren(
      ...options.map(([value, text]) => {
        const option = make("option", text);
        option.value = value;
        return option;
      }),
    );
    if (options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
  };

  function block() {
    const number = get("query-collection").value;
    if (!blocks.has(number)) blocks.set(number, read(`block-${number}`));
    return blocks.get(number);
  }

  function values() {
    return block().values[get("query-measure").value] || {};
  }

  function mean(numbers) {
    const known = numbers.filter((value) => value !== null);
    return known.reduce((sum, value) => sum + value, 0) / Math.max(1, known.length);
  }

  // Keeps the chosen systems where the collection has them; else the best one against the baseline.
  function offerSystems() {
    const found = values();
    const present = index.systems.map((name, number) => [number, name]).filter(([number]) => number in found);
    const b = get("query-b");
    fill(b, present, b.value === "" ? index.baseline : b.value);
    const others = present.filter(([number]) => String(number) !== b.value);
    others.sort(([one], [other]) => mean(found[other]) - mean(found[one]));
    const a = get("query-a");
    const kept = others.some(([number]) => String(number) === a.value);
    fill(a, present, kept ? a.value : (others[0] || present[0] || [""])[0]);
  }

  function chosenName(letter) {
    return index.systems[get(`query-${letter}`).value] || "none";
  }

  function compare() {
    const found = values();
    const a = found[get("query-a").value];
    const b = found[get("query-b").value];
    const queries = block().queries;
    view.rows = [];
    if (a && b) {
      queries.forEach(([id, text], number) => {
        if (a[number] === null || b[number] === null) return;
        view.rows.push({ id, text: text || id, a: a[number], b: b[number], difference: a[number] - b[number] });
      });
    }
    const summary = get("query-summary");
    get("query-figure").hidden = !view.rows.length;
    if (!view.rows.length) {
      summary.textContent = index.measures.includes(get("query-measure").value)
        ? "These two have no query in common."
        : "Values of single queries are in this page for " + index.measures.join(", ") + " only: there are too many queries.";
      showRows();
      return;
    }
    const wins = view.rows.filter((row) => row.difference > 0).length;
    const losses = view.rows.filter((row) => row.difference < 0).length;
    const nameA = chosenName("a");
    const nameB = chosenName("b");
    const total = mean(view.rows.map((row) => row.difference));
    const left = queries.length - view.rows.length;
    summary.textContent =
      `${nameA} is better on ${counted(wins)}, equal on ${counted(view.rows.length - wins - losses)} and worse on ` +
      `${counted(losses)} of ${counted(view.rows.length)} queries than ${nameB}; mean difference ${signed(total)}.` +
      (left ? ` ${counted(left)} queries that only one of them was measured on are left out.` : "");
    draw();
    showRows();
  }

  function draw() {
    const differences = view.rows.map((row) => row.difference).sort((one, other) => other - one);
    const limit = Math.max(1, ...[differences[0], -differences[differences.length - 1]]);
    const bars = { wins: "", losses: "" };
    const gap = differences.length <= 200 ? 0.15 : 0;
    differences.forEach((difference, x) => {
      if (!difference) return;
      const y = (100 - (difference / limit) * 100).toFixed(2);
      bars[difference > 0 ? "wins" : "losses"] += `M${x + gap} 100V${y}H${x + 1 - gap}V100Z`;
    });
    const chart = document.createElementNS(SVG, "svg");
    chart.setAttribute("viewBox", `0 0 ${differences.length} 200`);
    chart.setAttribute("preserveAspectRatio", "none");
    chart.setAttribute("role", "img");
    chart.setAttribute("aria-labelledby", "query-summary");
    for (const [kind, path] of Object.entries(bars)) {
      const element = document.createElementNS(SVG, "path");
      element.setAttribute("class", kind);
      element.setAttribute("d", path || "M0 0");
      chart.append(element);
    }
    const zero = document.createElementNS(SVG, "path");
    zero.setAttribute("class", "zero");
    zero.setAttribute("vector-effect", "non-scaling-stroke");
    zero.setAttribute("d", `M0 100H${differences.length}`);
    chart.append(zero);
    get("query-chart").replaceChildren(chart);
    get("query-top").textContent = signed(limit);
    get("query-bottom").textContent = signed(-limit);
  }

  function showRows() {
    const words = get("query-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = view.rows.filter((row) => {
      const text = `${row.id} ${row.text}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const way = view.descending ? -1 : 1;
    rows.sort((one, other) => {
      const first = one[view.key];
      const second = other[view.key];
      return way * (typeof first === "string" ? first.localeCompare(second) : first - second);
    });
    const some = view.all ? rows : rows.slice(0, FIRST);
    get("query-rows").replaceChildren(
      ...some.map((row) => {
        const line = make("tr");
        const text = make("td", row.text, "text");
        if (row.text !== row.id) text.append(make("span", row.id, "under"));
        const difference = make("td", signed(row.difference), row.difference > 0 ? "better" : row.difference < 0 ? "worse" : "");
        line.append(text, make("td", shown(row.a)), make("td", shown(row.b)), difference);
        return line;
      }),
    );
    const found = words.length ? `${counted(rows.length)} of ${counted(view.rows.length)} queries found` : `${counted(rows.length)} queries`;
    get("query-caption").textContent =
      `${get("query-measure").value} per query, A: ${chosenName("a")}, B: ${chosenName("b")}; ${found}${some.length < rows.length ? `, ${some.length} shown` : ""}`;
    const button = get("query-all");
    button.hidden = rows.length <= FIRST;
    button.textContent = view.all ? `Show the first ${FIRST}` : `Show all ${counted(rows.length)}`;
    for (const header of document.querySelectorAll(".queries th")) {
      const chosen = header.firstElementChild.dataset.key === view.key;
      header.setAttribute("aria-sort", chosen ? (view.descending ? "descending" : "ascending") : "none");
    }
  }

  function chooseMeasure(name) {
    for (const select of document.querySelectorAll("select.measures")) select.value = name;
    for (const part of document.querySelectorAll("[data-measure]")) part.hidden = part.dataset.measure !== name;
    offerSystems();
    compare();
  }

  for (const select of document.querySelectorAll("select.measures")) {
    select.addEventListener("change", () => chooseMeasure(select.value));
  }
  get("query-collection").addEventListener("change", () => {
    offerSystems();
    compare();
  });
  get("query-a").addEventListener("change", compare);
  get("query-b").addEventListener("change", compare);
  get("query-search").addEventListener("input", showRows);
  get("query-all").addEventListener("click", () => {
    view.all = !view.all;
    showRows();
  });
  for (const button of document.querySelectorAll(".queries th button")) {
    button.addEventListener("click", () => {
      view.descending = button.dataset.key === view.key ? !view.descending : button.dataset.key !== "text";
      view.key = button.dataset.key;
      showRows();
    });
  }
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });

  fill(get("query-collection"), index.collections.map((name, number) => [number, name]), 0);
  for (const part of document.querySelectorAll(".control, #query-view")) part.hidden = false;
  get("query-without").hidden = true;
  chooseMeasure(document.querySelector("[data-measure]").dataset.measure);
})();
