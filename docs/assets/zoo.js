// Tables that filter and sort, the graph and the small experiments. No library, nothing fetched from elsewhere;
// every page is complete without this file.
(() => {
  "use strict";
  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) k in node && k !== "list" ? (node[k] = v) : node.setAttribute(k, v);
    node.append(...children);
    return node;
  };
  const svg = (tag, attributes = {}, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  };

  // ------------------------------------------------------------ tables
  const number = (text) => {
    const match = text.replace(/\s/g, " ").match(/^-?\d[\d,]*\.?\d*(e-?\d+)?( ?[kMG])?/);
    if (!match) return null;
    const scale = { k: 1e3, M: 1e6, G: 1e9 }[(match[2] || "").trim()] || 1;
    return parseFloat(match[0].replace(/,/g, "")) * scale;
  };

  function grid(box) {
    const table = box.querySelector("table");
    if (!table || box.classList.contains("live")) return;
    const heads = [...table.tHead.rows[0].cells];
    const names = heads.map((h) => h.textContent.trim());
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, i) => {
      const texts = [...row.cells].map((c, k) => {
        c.dataset.label = names[k];
        return c.textContent.trim();
      });
      return { row, texts, i, all: texts.join(" ").toLowerCase() };
    });
    const facets = (box.dataset.facets || "").split(",").filter((f) => names.includes(f));
    const state = new URLSearchParams(location.search);
    const noun = box.dataset.noun || "rows";
    const bar = el("div", { className: "zoo-bar" });
    const text = el("input", { type: "search", value: state.get("text") || "", autocomplete: "off" });
    bar.append(el("label", {}, `Find in ${noun}`, text));
    const parts = (value) => value.split(", ");
    const selects = facets.map((facet) => {
      const k = names.indexOf(facet);
      const values = [...new Set(rows.flatMap((r) => parts(r.texts[k])))].filter((v) => v && v !== "–");
      values.sort((a, b) => (number(a) !== null && number(b) !== null ? number(b) - number(a) : a.localeCompare(b)));
      const select = el("select", {}, el("option", { value: "" }, "any"), ...values.map((v) => el("option", { value: v }, v)));
      select.value = state.get(facet.toLowerCase()) || "";
      if (select.selectedIndex < 0) select.value = "";
      bar.append(el("label", {}, facet, select));
      return { facet, k, select };
    });
    const reset = el("button", { type: "button" }, "Reset");
    const copy = el("button", { type: "button" }, "Copy address");
    bar.append(reset, copy);
    const count = el("p", { className: "zoo-count" });
    count.setAttribute("role", "status");
    count.setAttribute("aria-live", "polite");
    box.prepend(bar, count);
    let sort = { k: names.findIndex((n) => n.toLowerCase() === state.get("sort")), down: state.get("order") === "down" };

    function apply(write = true) {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const r of rows) {
        const keep = words.every((w) => r.all.includes(w)) && selects.every((s) => !s.select.value || parts(r.texts[s.k]).includes(s.select.value));
        r.row.hidden = !keep;
        n += keep;
      }
      count.textContent = `${n} of ${rows.length} ${noun}`;
      const order = [...rows];
      if (sort.k >= 0) {
        order.sort((a, b) => {
          const x = a.texts[sort.k], y = b.texts[sort.k], p = number(x), q = number(y);
          if ((p === null) !== (q === null)) return p === null ? 1 : -1; // what is unknown goes last, whichever way
          const d = p !== null && q !== null ? p - q : x.localeCompare(y);
          return (sort.down ? -d : d) || a.i - b.i;
        });
      }
      body.append(...order.map((r) => r.row));
      heads.forEach((h, k) => (k === sort.k ? h.setAttribute("aria-sort", sort.down ? "descending" : "ascending") : h.removeAttribute("aria-sort")));
      if (!write) return;
      const next = new URLSearchParams();
      if (text.value) next.set("text", text.value);
      for (const s of selects) if (s.select.value) next.set(s.facet.toLowerCase(), s.select.value);
      if (sort.k >= 0) {
        next.set("sort", names[sort.k].toLowerCase());
        if (sort.down) next.set("order", "down");
      }
      const query = next.toString();
      history.replaceState(history.state, "", (query ? `?${query}` : location.pathname) + location.hash);
    }

    heads.forEach((head, k) => {
      const button = el("button", { type: "button" }, names[k]);
      button.addEventListener("click", () => {
        sort = sort.k === k ? { k: sort.down ? -1 : k, down: !sort.down } : { k, down: false };
        apply();
      });
      head.replaceChildren(button);
    });
    text.addEventListener("input", () => apply());
    for (const s of selects) s.select.addEventListener("change", () => apply());
    reset.addEventListener("click", () => {
      text.value = "";
      for (const s of selects) s.select.value = "";
      sort = { k: -1, down: false };
      apply();
    });
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(location.href);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Copy it from the address bar";
      }
      setTimeout(() => (copy.textContent = "Copy address"), 2000);
    });
    box.classList.add("live");
    apply(false);
  }

  // ------------------------------------------------------------ graph of relations
  function graph(box) {
    const script = box.querySelector("script");
    if (!script || box.classList.contains("live")) return;
    const data = JSON.parse(script.textContent);
    if (!data.nodes.length) return;
    const known = new Map(data.nodes.map((n) => [n.id, n]));
    const select = el("select", {}, ...data.nodes.map((n) => el("option", { value: n.id }, n.id)));
    const picture = svg("svg", { role: "group", "aria-label": "Neighbours of the chosen paper" });
    const words = el("ul", { className: "zoo-reasons" });
    words.setAttribute("aria-live", "polite");
    const open = el("a", {}, "Open its page");
    box.append(el("label", {}, "Paper ", select), " ", open, picture, words);
    const degree = (id) => data.edges.filter((e) => e.s === id || e.t === id).length;
    const wanted = new URLSearchParams(location.search).get("paper");
    const width = (name) => 7.4 * name.length + 18;

    function show(id, write = true) {
      const edges = data.edges.filter((e) => e.s === id || e.t === id);
      const labels = new Map();
      for (const e of edges) {
        const other = e.s === id ? e.t : e.s;
        labels.set(other, [...(labels.get(other) || []), e.s === id ? e.r : `← ${e.r}`]);
      }
      const others = [...labels.keys()];
      // Two columns around the middle; a narrow page has one column below it. Sizes are pixels, so that letters keep theirs.
      const across = Math.min(box.clientWidth || 720, 860), narrow = across < 640, step = 42;
      const place = new Map();
      if (narrow) {
        place.set(id, [width(id) / 2 + 2, 20]);
        others.forEach((o, i) => place.set(o, [30 + width(o) / 2, 76 + step * i]));
      } else {
        const half = Math.ceil(others.length / 2), rows = Math.max(half, 1);
        place.set(id, [across / 2, (step * rows) / 2 + 6]);
        others.forEach((o, i) => {
          const left = i < half, k = left ? i : i - half, n = left ? half : others.length - half;
          place.set(o, [left ? width(o) / 2 + 2 : across - width(o) / 2 - 2, 6 + step * (k + 0.5 + (rows - n) / 2)]);
        });
      }
      const height = 26 + Math.max(...[...place.values()].map((p) => p[1]));
      picture.setAttribute("viewBox", `0 0 ${across} ${height}`);
      picture.style.height = `${height}px`;
      picture.replaceChildren();
      const [cx, cy] = place.get(id);
      for (const o of others) {
        const [x, y] = place.get(o), left = x < cx;
        const said = svg("text", { class: "edge-label" });
        said.textContent = labels.get(o).join(", ");
        if (narrow) {
          picture.append(svg("path", { d: `M14 34V${y}H30` }));
          said.setAttribute("x", 30 + width(o) + 6);
          said.setAttribute("y", y + 4);
        } else {
          const edge = left ? width(o) + 2 : across - width(o) - 2;
          const from = cx + ((left ? -1 : 1) * width(id)) / 2;
          picture.append(svg("path", { d: `M${from} ${cy}C${(from + edge) / 2} ${cy} ${(from + edge) / 2} ${y} ${edge} ${y}` }));
          said.setAttribute("x", left ? edge + 6 : edge - 6);
          said.setAttribute("y", y - 5);
          said.setAttribute("text-anchor", left ? "start" : "end");
        }
        picture.append(said);
      }
      for (const [name, [x, y]] of place) {
        const group = svg("g", { role: "button", tabindex: "0", class: name === id ? "centre" : "" });
        group.setAttribute("aria-label", name === id ? `${name}, in the middle` : `Go to ${name}`);
        const text = svg("text", { x, y: y + 4, "text-anchor": "middle" });
        text.textContent = name;
        group.append(svg("rect", { x: x - width(name) / 2, y: y - 14, width: width(name), height: 28, rx: 6 }), text);
        const go = () => (name === id ? (location.href = open.href) : show(name));
        group.addEventListener("click", go);
        group.addEventListener("keydown", (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          go();
          picture.querySelector(".centre")?.focus();
        });
        picture.append(group);
      }
      select.value = id;
      const url = known.get(id).url; // the copy that opens from a file has pages instead of folders
      open.href = location.protocol === "file:" ? url.replace(/\/$/, ".html") : `../${url}`;
      words.replaceChildren(...edges.map((e) => el("li", {}, `${e.s} ${e.r} ${e.t}: ${e.why}`)));
      if (write) history.replaceState(history.state, "", `?paper=${encodeURIComponent(id)}${location.hash}`);
    }
    select.addEventListener("change", () => show(select.value));
    box.classList.add("live");
    show(known.has(wanted) ? wanted : data.nodes.reduce((a, b) => (degree(b.id) > degree(a.id) ? b : a)).id, false);
    addEventListener("resize", () => show(select.value, false));
  }

  // ------------------------------------------------------------ small experiments
  const slider = (label, min, max, step, value, change) => {
    const input = el("input", { type: "range" });
    Object.assign(input, { min, max, step, value });
    const out = el("output", {}, String(value));
    input.addEventListener("input", () => {
      out.textContent = input.value;
      change(Number(input.value));
    });
    return el("label", {}, label, input, out);
  };

  const widgets = {
    // Which channels share statistics when C = 4 channels are split into G groups.
    groups(box, figure) {
      const cells = [...figure.querySelectorAll("polygon")].map((p) => [p, ...p.dataset.e.split(",").map(Number)]);
      const channels = 1 + Math.max(...cells.map((c) => c[2]));
      const choices = [];
      for (let g = 1; g <= channels; g++) if (channels % g === 0) choices.push(g);
      const caption = figure.querySelector("figcaption");
      const name = (g) => (g === 1 ? ": LayerNorm over (C, H, W)" : g === channels ? ": InstanceNorm" : "");
      const input = slider(`Groups (of ${channels} channels)`, 0, choices.length - 1, 1, Math.max(0, choices.indexOf(2)), (at) => {
        const g = choices[at];
        input.querySelector("output").textContent = `G = ${g}${name(g)}`;
        for (const [p, n, c, s] of cells) {
          const shared = n === 0 && c < channels / g;
          p.classList.toggle("on", shared && !(n + c + s === 0));
          p.classList.toggle("off", !shared);
        }
        caption.textContent = `With G = ${g} an element shares its statistics with ${channels / g} channels of its own sample.`;
      });
      input.querySelector("output").textContent = "G = 2";
      box.append(input);
    },
    // w(p) = exp(beta p^lambda (1 - p)); IMAE is lambda = 1 with beta = T.
    emphasis(box, figure) {
      const path = figure.querySelector("svg path.l.c0");
      const points = path.getAttribute("d").slice(1).split("L").map((p) => p.split(" ").map(Number));
      const left = points[0][0], right = points[points.length - 1][0], imae = box.dataset.figure.includes("imae");
      const value = { beta: Number(box.dataset.beta || 8), lambda: 1 };
      const own = svg("path", { class: "l c1 d" });
      path.after(own);
      const said = el("p", {});
      said.setAttribute("aria-live", "polite");
      const draw = () => {
        const ys = Array.from({ length: 101 }, (_, i) => {
          const p = i / 100;
          return Math.exp(value.beta * p ** value.lambda * (1 - p));
        });
        const top = Math.max(...ys), low = Math.min(...ys, 0);
        own.setAttribute("d", "M" + ys.map((y, i) => `${(left + ((right - left) * i) / 100).toFixed(1)} ${(222 - (210 * (y - low)) / (top - low || 1)).toFixed(1)}`).join("L"));
        const at = ys.indexOf(top) / 100;
        said.textContent = `Largest weight ${top.toPrecision(3)} at p = ${at.toFixed(2)}; at p = 0 it is ${ys[0].toPrecision(3)}. The dashed curve is scaled to its own maximum.`;
      };
      box.append(slider(imae ? "T" : "β", 0, 16, 0.5, value.beta, (v) => ((value.beta = v), draw())));
      if (!imae) box.append(slider("λ", 0, 3, 0.1, 1, (v) => ((value.lambda = v), draw())));
      box.append(said);
      draw();
    },
  };

  function widget(box) {
    const figure = document.getElementById(box.dataset.figure);
    if (figure && !box.childElementCount && widgets[box.dataset.widget]) widgets[box.dataset.widget](box, figure);
  }

  // ------------------------------------------------------------ two papers side by side
  async function compare(box) {
    if (box.childElementCount || location.protocol === "file:") return;
    const data = await (await fetch(box.dataset.source)).json();
    const names = Object.keys(data.papers).sort();
    const state = new URLSearchParams(location.search);
    const pick = (label, value) => {
      const select = el("select", {}, ...names.map((n) => el("option", { value: n }, n)));
      select.value = names.includes(value) ? value : names[0];
      return [select, el("label", {}, `${label} `, select, " ")];
    };
    const [a, labelA] = pick("Compare", state.get("a") || "group_norm");
    const [b, labelB] = pick("with", state.get("b") || "batch_norm");
    const out = el("div", {});
    const facts = {
      Title: (p) => p.title, Year: (p) => String(p.year), Venue: (p) => p.venue, Category: (p) => p.category, "What it does": (p) => p.summary,
      Methods: (p) => p.methods.join(", "), Kinds: (p) => [...new Set(p.methods.map((m) => data.methods[m].kind))].join(", "), Claims: (p) => p.status,
    };
    const show = (write) => {
      const [x, y] = [data.papers[a.value], data.papers[b.value]];
      const head = el("tr", {}, el("th", { scope: "col" }, "Fact"), ...[x, y].map((p) => el("th", { scope: "col" }, el("a", { href: `../${p.page}` }, p.id))));
      const rows = Object.entries(facts).map(([name, f]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, f(x)), el("td", {}, f(y))));
      out.replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
      if (write) history.replaceState(history.state, "", `?a=${a.value}&b=${b.value}`);
    };
    a.addEventListener("change", () => show(true));
    b.addEventListener("change", () => show(true));
    box.append(labelA, labelB, out);
    show(false);
  }

  function ready() {
    document.querySelectorAll(".zoo-grid").forEach(grid);
    document.querySelectorAll(".zoo-graph").forEach(graph);
    document.querySelectorAll(".zoo-widget").forEach(widget);
    document.querySelectorAll(".zoo-compare").forEach(compare);
    const scrolls = () => {
      const boxes = [...document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .tabbed-labels, .zoo-wide, details > table, .doc-signature pre")];
      for (const node of boxes.filter((box) => box.scrollWidth > box.clientWidth)) node.tabIndex = 0;
    };
    requestAnimationFrame(scrolls); // with the layout that the page needs anyway
    addEventListener("resize", scrolls);
  }
  window.document$ ? document$.subscribe(ready) : addEventListener("DOMContentLoaded", ready);
})();
