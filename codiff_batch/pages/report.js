"use strict";
const photos = read();
const PER_PAGE = 60, ORDER = {failed: 0, restored: 1, "would be restored": 1, skipped: 2, "put back": 3};
const quality = photo => Math.min(photo.estimate ?? 101, photo.header ?? 101);
let outcome = "", page = 0, shown = [], current = 0;

function showTotals() {
  const counts = {};
  for (const photo of photos) counts[photo.outcome] = (counts[photo.outcome] ?? 0) + 1;
  const names = ["", ...Object.keys(ORDER).filter(name => counts[name])];
  at("totals").replaceChildren(...names.map(name => {
    const button = element("button", {type: "button", className: name},
      element("b", {}, String(name ? counts[name] : photos.length)), name || "photos");
    button.setAttribute("aria-pressed", String(outcome === name));
    button.onclick = () => { outcome = name; page = 0; showTotals(); show(); };
    return element("li", {}, button);
  }));
}

function showReasons() {
  const counts = {};
  for (const photo of photos) {
    if (photo.outcome === "restored") continue;
    const reason = `${photo.outcome}: ${photo.reason.split(":")[0]}`;
    counts[reason] = (counts[reason] ?? 0) + 1;
  }
  const entries = Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, 12);
  if (entries.length) at("reasons").replaceChildren(element("strong", {}, "Why not restored"),
    element("ul", {}, ...entries.map(([reason, count]) => element("li", {}, `${count} × ${reason}`))));
}

function showChart() {
  const known = photos.filter(photo => photo.header != null && photo.estimate != null);
  at("chart").hidden = !known.length;
  if (known.length) new QualityPlot(at("chart").querySelector("canvas"), known).redraw();
}

function show() {
  const words = at("words").value.toLowerCase(), low = +at("low").value, high = +at("high").value;
  const open = low <= 0 && high >= 100;
  shown = photos.filter(photo => (!outcome || photo.outcome === outcome)
    && `${photo.folder}/${photo.name}`.toLowerCase().includes(words)
    && (open || quality(photo) >= low && quality(photo) <= high));
  const by = {
    failures: (a, b) => ORDER[a.outcome] - ORDER[b.outcome],
    name: (a, b) => a.name.localeCompare(b.name),
    quality: (a, b) => quality(a) - quality(b),
    change: (a, b) => (b.change ?? -1) - (a.change ?? -1),
    seconds: (a, b) => b.seconds - a.seconds,
  }[at("sort").value];
  shown.sort(by);
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(page, pages - 1);
  at("count").textContent = `${shown.length} of ${photos.length}`;
  at("page").textContent = `page ${page + 1} of ${pages}`;
  at("back").disabled = page === 0;
  at("next").disabled = page === pages - 1;
  at("cards").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((photo, place) => {
    const pair = element("div", {className: "pair"}, ...photo.small.filter(Boolean).map(source =>
      element("img", {src: source, loading: "lazy", alt: ""})));
    const numbers = [`file ${whole(photo.header)}`, `pixels ${whole(photo.estimate)}`];
    if (photo.change != null) numbers.push(`change ${photo.change.toFixed(1)}`);
    const button = element("button", {type: "button", title: photo.folder}, pair, element("div", {className: "words"},
      element("strong", {}, photo.name), element("div", {className: photo.outcome}, photo.outcome
        + (photo.outcome === "restored" ? "" : `: ${photo.reason}`)),
      element("div", {className: "faint"}, numbers.join(", "))));
    button.onclick = () => view(page * PER_PAGE + place);
    return element("li", {}, button);
  }));
}

const viewer = new Viewer(at("stage"), {wheel: true, onchange: () => {
  at("zoom").textContent = `${Math.round(100 * viewer.scale)} %`;
  at("slider").value = 100 * viewer.edge;
  at("difference").setAttribute("aria-pressed", String(viewer.difference));
}});
function view(index) {
  current = (index + shown.length) % shown.length;
  const photo = shown[current];
  at("title").textContent = `${photo.name}: ${photo.outcome}${photo.reason ? `: ${photo.reason}` : ""}`;
  if (!at("viewer").open) at("viewer").showModal();
  Object.assign(viewer, {left: 0, right: 1});
  viewer.show([["before", photo.before], ["after", photo.after]].flatMap(([name, src]) => src ? [{name, src}] : []));
  viewer.set({scale: 1, x: 0, y: 0});
}
const actions = {previous: () => view(current - 1), following: () => view(current + 1), close: () => at("viewer").close(),
  smaller: () => viewer.zoom(1 / 2), larger: () => viewer.zoom(2), difference: () => viewer.set({difference: !viewer.difference})};
for (const button of document.querySelectorAll("[data-do]")) button.onclick = actions[button.dataset.do];
at("slider").oninput = () => viewer.set({edge: at("slider").value / 100});
at("viewer").onkeydown = event => {
  const act = {ArrowLeft: actions.previous, ArrowRight: actions.following, "+": actions.larger, "=": actions.larger,
    "-": actions.smaller, "0": () => viewer.set({scale: 1, x: 0, y: 0}), ",": () => viewer.moveEdge(-.05), ".": () => viewer.moveEdge(.05),
    m: actions.difference}[event.key];
  if (act && !isTyping(event)) { event.preventDefault(); act(); }
};
for (const id of ["words", "low", "high", "sort"]) at(id).oninput = () => { page = 0; show(); };
at("filter").onsubmit = event => event.preventDefault();
at("back").onclick = () => { page--; show(); scrollTo(0, 0); };
at("next").onclick = () => { page++; show(); scrollTo(0, 0); };
at("about").textContent = at("made").textContent;
showTotals(); showReasons(); showChart(); show();
