"use strict";
(() => {
  const FIRST = 10; // questions shown at first
  const index = JSON.parse(document.getElementById("answer-index").textContent);
  const make = (name, text, kind) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  function start(root) {
    const number = root.dataset.section;
    const section = index[number];
    const part = (name) => root.querySelector(`[data-part="${name}"]`);
    const blocks = new Map();
    let all = false;

    const fill = (name, options, chosen) => {
      part(name).replaceChildren(
        ...options.map(([value, text]) => {
          const option = make("option", text);
          option.value = value;
          return option;
        }),
      );
      if (options.some(([value]) => String(value) === String(chosen))) part(name).value = chosen;
    };
    const block = () => {
      const key = part("collection").value;
      if (!blocks.has(key)) blocks.set(key, JSON.parse(document.getElementById(`answer-block-${number}-${key}`).textContent));
      return blocks.get(key);
    };
    const given = () => block().given[part("budget").value];

    // Keeps the chosen systems where the collection has them; else the first one against the baseline.
    function offerSystems() {
      const present = section.systems.map((name, system) => [system, name]).filter(([system]) => system in given());
      fill("b", present, part("b").value === "" ? section.baseline : part("b").value);
      const others = present.filter(([system]) => String(system) !== part("b").value);
      const a = part("a").value;
      const kept = others.some(([system]) => String(system) === a);
      const resrank = others.find(([, name]) => name.startsWith("resrank")) || others[0] || present[0];
      fill("a", present, kept ? a : resrank[0]);
    }

    function answer(letter, [text, passage, f1]) {
      const side = make("div", undefined, "said");
      side.append(make("span", section.systems[part(letter).value], "under"));
      side.append(text ? make("q", text) : make("span", "no answer", "soft"));
      side.append(make("span", `F1 ${(f1 / 10000).toFixed(2)}${passage ? `, from ${passage}` : ""}`, "under"));
      return side;
    }

    function show() {
      const a = given()[part("a").value];
      const b = given()[part("b").value];
      const rows = block()
        .queries.map(([id, text, gold], row) => ({ id, text, gold, a: a && a[row], b: b && b[row] }))
        .filter((row) => row.a && row.b);
      const better = (row) => row.a[2] - row.b[2];
      const which = {
        all: () => true,
        a: (row) => better(row) > 0,
        b: (row) => better(row) < 0,
        wrong: (row) => row.a[2] === 0 && row.b[2] === 0,
      };
      const count = (name) => rows.filter(which[name]).length.toLocaleString("en");
      part("summary").textContent =
        `A answers better on ${count("a")}, B on ${count("b")} of ${count("all")} questions; both have F1 0 on ${count("wrong")}.`;
      const found = rows.filter(which[part("which").value]);
      found.sort((one, other) => Math.abs(better(other)) - Math.abs(better(one)));
      const some = all ? found : found.slice(0, FIRST);
      part("examples").replaceChildren(
        ...some.map((row) => {
          const item = make("li");
          const asked = make("p", row.text || row.id, "asked");
          const gold = make("p", undefined, "gold");
          gold.append(make("span", "Gold: ", "soft"), row.gold.join(" | "));
          const both = make("div", undefined, "both");
          both.append(answer("a", row.a), answer("b", row.b));
          item.append(asked, gold, both);
          return item;
        }),
      );
      const more = part("more");
      more.hidden = found.length <= FIRST;
      more.textContent = all ? `Only the first ${FIRST} questions` : `All ${found.length.toLocaleString("en")} questions`;
    }

    const changed = () => {
      offerSystems();
      show();
    };
    fill("collection", section.collections.map((name, collection) => [collection, name]), 0);
    fill("budget", section.budgets.map((budget) => [budget, budget]), section.budgets[Math.floor(section.budgets.length / 2)]);
    part("collection").addEventListener("change", changed);
    part("budget").addEventListener("change", changed);
    for (const name of ["a", "b", "which"]) part(name).addEventListener("change", show);
    part("more").addEventListener("click", () => {
      all = !all;
      show();
    });
    root.hidden = false;
    changed();
  }

  for (const root of document.querySelectorAll(".answer-view")) start(root);
  for (const text of document.querySelectorAll(".answer-without")) text.hidden = true;
})();
