// What comes before the theme's script: mathematics is set as soon as the page is parsed, and the search index is fetched only when
// somebody turns to the search. Nothing is fetched from elsewhere; without this file formulae are shown as TeX.
(() => {
  "use strict";

  const options = (display) => ({ displayMode: display, throwOnError: true, trust: false, maxExpand: 200, maxSize: 20 });

  // Equations side by side are written with \qquad or \quad between them, outside of braces and environments: where a line may break.
  function pieces(tex) {
    const parts = [""];
    let depth = 0;
    for (const token of tex.match(/\\(?:begin|end|left|right)\b|\\q?quad\b|\\[a-zA-Z]+|\\.|[^\\]/gs) || []) {
      if (token === "{" || token === "\\begin" || token === "\\left") depth++;
      if (token === "}" || token === "\\end" || token === "\\right") depth--;
      if (depth === 0 && /^\\q?quad$/.test(token)) parts.push("");
      else parts[parts.length - 1] += token;
    }
    return parts.map((p) => p.trim()).filter(Boolean);
  }

  const tooWide = (node) => node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1;

  // An equation wider than its box breaks between its parts; what is still too wide scrolls, and says so. First all are measured, then
  // all are changed, so that the page is laid out once for each.
  function fit(equations) {
    for (const [node, tex] of equations.filter(([node]) => tooWide(node))) {
      const parts = pieces(tex);
      if (parts.length > 1) katex.render(`\\begin{gathered}${parts.join("\\\\[.5em]")}\\end{gathered}`, node, options(true));
    }
    for (const [node, wide] of equations.map(([node]) => [node, tooWide(node)])) {
      node.classList.toggle("wide", wide);
      wide ? (node.tabIndex = 0) : node.removeAttribute("tabindex");
    }
  }

  function math() {
    const long = [], known = new Map(); // symbols come back often on a page
    for (const node of document.querySelectorAll(".arithmatex")) {
      if (node.querySelector(".katex")) continue;
      const text = node.textContent.trim();
      const display = text.startsWith("\\[");
      const tex = text.replace(/^\\[[(]/, "").replace(/\\[\])]$/, "");
      const same = known.get(text);
      if (same) node.replaceChildren(...[...same.childNodes].map((child) => child.cloneNode(true)));
      else katex.render(tex, node, options(display));
      known.set(text, node);
      if (display) {
        node.setAttribute("role", "math");
        node.setAttribute("aria-label", tex);
        long.push([node, tex]);
      }
    }
    const all = () => fit(long);
    requestAnimationFrame(all); // with the layout that the page needs anyway
    document.fonts?.ready.then(all); // the faces of the mathematics change its width
    addEventListener("resize", all);
  }

  // The theme fetches the index of all pages at every visit, more than all else together; most visits never search.
  function indexOnDemand() {
    if (location.protocol === "file:" || /[?&][hq]=/.test(location.search)) return; // a script there; a link into the search or from it
    const { open, send } = XMLHttpRequest.prototype, held = [], moments = ["focusin", "pointerover"];
    const asked = new WeakMap();
    const release = (event) => {
      if (event && !event.target.closest?.("[data-md-component=search], [for=__search]")) return;
      Object.assign(XMLHttpRequest.prototype, { open, send });
      for (const moment of moments) removeEventListener(moment, release);
      for (const go of held.splice(0)) go();
    };
    XMLHttpRequest.prototype.open = function (method, url, ...more) {
      asked.set(this, String(url));
      return open.call(this, method, url, ...more);
    };
    XMLHttpRequest.prototype.send = function (body) {
      if (asked.get(this)?.endsWith("/search/search_index.json")) held.push(() => send.call(this, body));
      else send.call(this, body);
    };
    for (const moment of moments) addEventListener(moment, release);
  }

  indexOnDemand();
  if (window.katex) math();
})();
