"use strict";
(async () => {
  // The page holds its data compressed: most of it are paths.
  const text = document.getElementById("data").textContent;
  const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(stream).json();
  const place = name => document.getElementById(name);
  const map = place("treemap"), told = place("told"), find = place("find"), choice = place("unit"), measure = place("measure");
  const MB = 1048576, HEAD = 18, LEAST = 5, INSIDE = 24, LISTED = 40;
  const isFolder = node => Array.isArray(node[1]);
  let trail = [], size = new Map();

  const words = bytes => bytes >= MB / 10 ? `${(bytes / MB).toFixed(1)} MB` : `${(bytes / 1024).toFixed(1)} KB`;
  const share = (bytes, whole) => whole ? `${(bytes / whole * 100).toFixed(bytes / whole < .1 ? 1 : 0)} %` : "";

  // What a node takes by the chosen measure: a file has its bytes, a folder those of all that is in it.
  const weigh = node => {
    if (!size.has(node)) size.set(node, isFolder(node) ? node[1].reduce((sum, each) => sum + weigh(each), 0) : node[Number(measure.value)]);
    return size.get(node);
  };
  // A path begins anew in each distribution, whose label is no part of it.
  const labels = new Set(data.parts);
  const joined = (before, node) => before + node[0] + (labels.has(node) ? " / " : "");
  const matches = (node, wanted, path) => {
    const here = joined(path, node);
    return isFolder(node) ? node[1].some(each => matches(each, wanted, here)) || here.toLowerCase().includes(wanted) : here.toLowerCase().includes(wanted);
  };

  // Squarified treemaps (Bruls, Huizing, van Wijk 2000): rows along the shorter side, each as long as its cells get no narrower.
  const layOut = (nodes, x, y, width, height) => {
    const found = [];
    let rest = nodes.filter(node => weigh(node) > 0).sort((a, b) => weigh(b) - weigh(a));
    let left = rest.reduce((sum, node) => sum + weigh(node), 0);
    while (rest.length && width > 0 && height > 0) {
      const side = Math.min(width, height), scale = width * height / left;
      let row = [], sum = 0, worst = Infinity;
      for (const node of rest) {
        const more = sum + weigh(node), thick = more * scale / side;
        const ratio = Math.max(...[weigh(row[0] || node), weigh(node)].map(each => { const long = each * scale / thick; return Math.max(long / thick, thick / long); }));
        if (ratio > worst) break;
        row.push(node); sum = more; worst = ratio;
      }
      const thick = sum * scale / side;
      let at = 0;
      for (const node of row) {
        const long = weigh(node) / sum * side;
        found.push(width <= height ? [node, x + at, y, long, thick] : [node, x, y + at, thick, long]);
        at += long;
      }
      if (width <= height) { y += thick; height -= thick; } else { x += thick; width -= thick; }
      rest = rest.slice(row.length); left -= sum;
    }
    return found;
  };

  const put = (box, x, y, width, height) => {
    box.style.cssText = `left:${x.toFixed(1)}px;top:${y.toFixed(1)}px;width:${Math.max(0, width).toFixed(1)}px;height:${Math.max(0, height).toFixed(1)}px`;
  };
  const named = label => {
    const text = document.createElement("span");
    text.className = "label"; text.textContent = label;
    return text;
  };
  const inside = (parent, nodes, width, height, depth, down = 0) => {
    for (const [node, x, y, w, h] of layOut(nodes, 0, down, width, height)) {
      if (w < LEAST || h < LEAST) continue;
      const box = document.createElement("span");
      box.className = `inner ${isFolder(node) ? "folder" : "k" + node[1]}`;
      put(box, x, y, w, h);
      const told = w > 60 && h > 2 * HEAD, top = told && isFolder(node) ? HEAD - 2 : 0;
      if (isFolder(node) && depth < 4 && w > INSIDE && h > INSIDE) inside(box, node[1], w - 2, h - 2 - top, depth + 1, top);
      if (told) box.append(named(node[0]));
      parent.append(box);
    }
  };

  const wholeName = () => trail.map(node => node[0]).join(" / ");
  const draw = focus => {
    const here = trail[trail.length - 1], whole = weigh(here), wanted = find.value.trim().toLowerCase();
    const path = trail.slice(1).reduce(joined, "");
    map.replaceChildren();
    map.setAttribute("aria-label", `Treemap of ${wholeName()}`);
    for (const [node, x, y, w, h] of layOut(here[1], 0, 0, map.clientWidth, map.clientHeight)) {
      if (w < 2 || h < 2) continue;
      const cell = document.createElement("button");
      cell.type = "button";
      cell.className = `cell ${isFolder(node) ? "folder" : "leaf k" + node[1]}`;
      if (wanted && !matches(node, wanted, path)) cell.classList.add("dim");
      put(cell, x, y, w, h);
      const label = `${node[0]} ${words(weigh(node))}`;
      if (w > 30 && h > 14) cell.append(named(label));
      if (isFolder(node) && h > HEAD + INSIDE && w > INSIDE) {
        const body = document.createElement("span");
        body.className = "inner folder";
        put(body, 2, HEAD, w - 6, h - HEAD - 4);
        inside(body, node[1], w - 8, h - HEAD - 6, 0);
        cell.append(body);
      }
      cell.title = `${node[0]}: ${words(weigh(node))}, ${share(weigh(node), whole)}`;
      cell.setAttribute("aria-label", `${node[0]}: ${words(weigh(node))}, ${share(weigh(node), whole)} of ${here[0]}${isFolder(node) ? "" : ", " + data.kinds[node[1]]}`);
      cell.addEventListener("click", () => { if (isFolder(node)) { trail.push(node); draw(true); } else told.textContent = cell.title; });
      map.append(cell);
    }
    crumbs();
    list(here, whole, wanted, path);
    told.textContent = `${wholeName()}: ${words(whole)}`;
    if (focus && map.firstChild) map.firstChild.focus();
  };
  const crumbs = () => {
    const line = place("path");
    line.replaceChildren();
    trail.forEach((node, number) => {
      if (number) line.append(" / ");
      if (number === trail.length - 1) { const now = document.createElement("strong"); now.textContent = node[0]; line.append(now); return; }
      const up = document.createElement("button");
      up.type = "button"; up.textContent = node[0];
      up.addEventListener("click", () => { trail = trail.slice(0, number + 1); draw(true); });
      line.append(up);
    });
  };

  // The same as a list, for who does not look at pictures; with a search, the files that fit.
  const list = (here, whole, wanted, path) => {
    const rows = [];
    if (wanted) {
      const walk = (node, before) => { const own = joined(before, node); if (isFolder(node)) node[1].forEach(each => walk(each, own)); else if (own.toLowerCase().includes(wanted)) rows.push([own, weigh(node)]); };
      here[1].forEach(node => walk(node, path));
    } else here[1].forEach(node => rows.push([node[0], weigh(node)]));
    rows.sort((a, b) => b[1] - a[1]);
    const box = document.createElement("details"), head = document.createElement("summary"), table = document.createElement("table");
    head.textContent = wanted ? `${rows.length} files fit` : `As a list (${rows.length})`;
    box.open = Boolean(wanted);
    for (const [name, bytes] of rows.slice(0, LISTED)) {
      const row = table.insertRow(), title = document.createElement("th");
      title.scope = "row"; title.textContent = name; row.append(title);
      for (const each of [words(bytes), share(bytes, whole)]) { const cell = row.insertCell(); cell.className = "number"; cell.textContent = each; }
    }
    box.append(head, table);
    place("list").replaceChildren(box);
  };

  const units = data.units.map(unit => [unit.name, unit.parts.map(number => data.parts[number])]);
  data.units.forEach((unit, number) => {
    const option = document.createElement("option");
    option.value = number; option.textContent = `${unit.kind} ${unit.name}`;
    choice.append(option);
  });
  data.kinds.forEach((kind, number) => {
    const item = document.createElement("span"), colour = document.createElement("i");
    colour.className = `k${number}`; item.append(colour, kind); place("legend").append(item);
  });
  // Of files in the layers of images, no packed bytes are known one by one.
  const packs = node => isFolder(node) ? node[1].some(packs) : node[3] > 0;
  const start = () => {
    const unit = units[Number(choice.value)], known = packs(unit);
    measure.parentElement.hidden = !known;
    if (!known && measure.value !== "2") { measure.value = "2"; size = new Map(); }
    trail = [unit]; draw(false);
  };
  choice.addEventListener("change", start);
  measure.addEventListener("change", () => { size = new Map(); draw(false); });
  find.addEventListener("input", () => draw(false));
  map.addEventListener("keydown", event => {
    if ((event.key === "Escape" || event.key === "Backspace") && trail.length > 1) { event.preventDefault(); trail.pop(); draw(true); }
  });
  let waiting = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => draw(false)); });
  if (!units.length) return;
  const largest = units.reduce((best, unit, number) => weigh(unit) > weigh(units[best]) ? number : best, 0);
  choice.value = largest;
  place("controls").hidden = false;
  start();
  document.documentElement.dataset.ready = "yes";
})();
