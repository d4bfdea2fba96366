"use strict";
const told = read(), {samples, settings} = told;
for (const photo of told.photos) photo.quality ??= 101; // of those that no line restores
const judged = told.photos.filter(photo => !photo.left);
const mine = sample => told.photos[sample.photo];
let line = told.minQf, current = 0, setting = 0, spoken = 0;
const votes = new Map();

// --- What a line means ---------------------------------------------------------------------------------------------
// A photo that CaVE has not seen is restored by its file's word alone; above the line its pixels may still be worse.
const verdict = (photo, at = line) => photo.left || (photo.quality < at ? "restore" : photo.estimate == null ? "unsure" : "leave");
function totals(at) {
  const sum = {restore: 0, unsure: 0, leave: 0, megapixels: 0, most: 0};
  for (const photo of judged) {
    const is = verdict(photo, at), size = photo.size[0] * photo.size[1] / 1e6;
    sum[is]++;
    if (is === "restore") sum.megapixels += size;
    if (is === "unsure" && at > 0) sum.most += size;
  }
  if (at <= 0) { sum.leave += sum.unsure; sum.unsure = 0; }
  sum.most += sum.megapixels;
  return sum;
}
const range = (low, high, words) => words(low) === words(high) ? words(low) : `${words(low)} to ${words(high)}`;
function seconds(photos, size, by = picked()) {
  const pace = settings[by];
  return pace && photos ? told.judging + photos * pace.perPhoto + size * pace.perMegapixel : told.judging;
}
const time = (sum, by) => range(seconds(sum.restore, sum.megapixels, by), seconds(sum.restore + sum.unsure, sum.most, by), duration);

// --- Marks ----------------------------------------------------------------------------------------------------------
// The setting with the most marks; of several, the one with the least texture; without marks, the one shown.
function picked() {
  const marks = settings.map((_, index) => [...votes.values()].filter(vote => vote === index).length);
  const most = Math.max(0, ...marks);
  if (!most) return setting;
  const equal = marks.flatMap((number, index) => number === most ? [index] : []);
  return equal.sort((a, b) => (settings[a].texture ?? 0) - (settings[b].texture ?? 0) || settings[a].strength - settings[b].strength)[0];
}
function beside(index, step) {
  const now = settings[index];
  if (now?.texture == null) return -1;
  const others = settings.map((_, other) => other).filter(other => settings[other].model === now.model && settings[other].strength === now.strength
    && step * (settings[other].texture - now.texture) > 0);
  return others.sort((a, b) => step * (settings[a].texture - settings[b].texture))[0] ?? -1;
}
function command() {
  const {start, settings: options, end} = told.commands[at("shell").value];
  return [start, "--min-qf", String(line), options[picked()], end].filter(Boolean).join(" ");
}

// --- The line -------------------------------------------------------------------------------------------------------
function say(text) {
  clearTimeout(spoken);
  spoken = setTimeout(() => { at("says").textContent = text; }, 250);
}
function moveLine(value) {
  line = Math.min(100, Math.max(0, value));
  at("line").value = line;
  update();
}
const sentence = sum => `${range(sum.restore, sum.restore + sum.unsure, number => number.toLocaleString("en"))} of ${count(told.photos.length, "photo")} restored`;
function update() {
  const sum = totals(line), others = told.photos.length - judged.length;
  const failed = told.photos.filter(photo => photo.left === "failed").length;
  const tile = (big, words, kind = "") => element("div", {className: kind}, element("b", {}, big), element("span", {className: "faint"}, words));
  const [size, unit] = megapixels(sum.megapixels).split(" "), pace = settings[picked()];
  at("totals").replaceChildren(
    tile(range(sum.restore, sum.restore + sum.unsure, number => number.toLocaleString("en")), "photos restored", "is-restored"),
    tile(range(sum.megapixels, sum.most, value => megapixels(value).split(" ")[0]), unit),
    tile(time(sum), pace ? `estimated, at ${pace.perMegapixel.toPrecision(2)} s per megapixel, just measured` : "to judge them again"),
    tile(range(sum.leave, sum.leave + sum.unsure, number => number.toLocaleString("en")), "left alone, good already"),
    ...(others > failed ? [tile(String(others - failed), "left alone for another reason")] : []),
    ...(failed ? [tile(String(failed), "failed", "failed")] : []));
  const spread = `${sentence(sum)}, ${size} megapixels, about ${time(sum)}`;
  at("line").setAttribute("aria-valuetext", `${line}: ${spread}`);
  at("histogram-says").textContent = "How many photos have which quality, the lower of what file and pixels say (heights by the square root)";
  at("unseen").hidden = !sum.unsure;
  at("unseen").textContent = `${count(sum.unsure, "photo")} above the line ${sum.unsure === 1 ? "was" : "were"} judged by the file alone (hatched), because the file says less than ${told.minQf}. `
    + "Pixels may be worse than the file says: run the preview with --look to be certain.";
  at("promise").replaceChildren(element("strong", {}, sentence(sum)), ` · ${range(sum.megapixels, sum.most, megapixels)} · about ${time(sum)}`);
  const marks = [...votes.values()].filter(vote => vote === picked()).length;
  const list = told.stdin ? "Pass the list of photos again on standard input. " : "";
  at("because").textContent = list + (!pace ? "" : votes.size ? `${pace.words}: ${marks} of ${count(votes.size, "mark")}` : `${pace.words}: the setting shown; mark the best ones to choose`);
  at("command").textContent = command();
  for (const row of at("table").tBodies[0].rows) row.classList.toggle("now", +row.cells[0].textContent === line);
  histogram.redraw(); plot.redraw(); showVerdicts(); showRows(); showMarks();
  say(spread);
}

// --- Comparing ------------------------------------------------------------------------------------------------------
const viewer = new Viewer(at("stage"), {onchange: showTools});
const histogram = new Histogram(at("histogram").querySelector("canvas"), judged, () => line);
// Pictures that are no JPEGs have no quality by the file.
const inPlot = photo => photo.header != null;
const plot = new QualityPlot(at("plot").querySelector("canvas"), judged.filter(inPlot), {line: () => line, marks: () => samples.map((sample, index) =>
  ({...mine(sample), label: String(index + 1), current: index === current})).filter(inPlot)});
at("plot").hidden = judged.length && !judged.some(inPlot);

function choosePhoto(index) {
  if (!samples.length) return;
  current = (index + samples.length) % samples.length;
  const sample = samples[current], photo = mine(sample), turned = sample.whole;
  viewer.show([{name: "original", src: sample.before}, ...settings.map(({words}, place) =>
    ({name: words, src: sample.versions[place]?.picture ?? sample.before}))], sample.width, sample.height);
  viewer.set({x: 0, y: 0});
  const [left, top, wide, high] = sample.box.map(part => `${100 * part}%`), [picture, box] = at("whole").children;
  picture.src = turned;
  Object.assign(box.style, {left, top, width: wide, height: high});
  at("name").textContent = photo.name;
  at("facts").textContent = `${sample.facts}${sample.why ? `; shown because it is ${sample.why === "saved again" ? "one that was saved again" : "near the line"}` : ""}`;
  for (const [place, button] of [...at("strip").querySelectorAll("button")].entries()) button.setAttribute("aria-current", String(place === current));
  // Not scrollIntoView, which would scroll the page as well.
  const strip = at("strip"), item = strip.children[current];
  strip.scrollLeft = Math.min(item.offsetLeft - 20, Math.max(strip.scrollLeft, item.offsetLeft + item.offsetWidth + 20 - strip.clientWidth));
  plot.redraw(); showVerdicts(); showTools(); showMarks();
  say(`${current + 1} of ${samples.length}: ${photo.name}. ${at("verdict").textContent}`);
}
function chooseSetting(index, left = false) {
  if (index < 0 || index >= settings.length) return;
  if (left) return viewer.set({left: viewer.left === index + 1 ? 0 : index + 1});
  setting = index;
  viewer.set({right: index + 1});
  update();
  say(settings[index].words);
}
function showTools() {
  for (const [place, button] of [...at("settings").children].entries()) button.setAttribute("aria-pressed", String(place === setting));
  for (const button of at("zooms").children) button.setAttribute("aria-pressed", String(viewer.scale === +button.dataset.zoom));
  at("difference").setAttribute("aria-pressed", String(viewer.difference));
  at("edge").value = 100 * viewer.edge;
  const names = [viewer.pictures[viewer.left]?.name ?? "", viewer.pictures[viewer.right]?.name ?? ""];
  at("sides").textContent = `${names[0]} | ${names[1]}`;
  at("edge").setAttribute("aria-valuetext", `${Math.round(100 * viewer.edge)} % ${names[0]}, the rest ${names[1]}`);
  const version = samples[current]?.versions[setting];
  at("change").textContent = version ? `${settings[setting].words} changes it by ${version.mean} of 255 levels on average, ${version.largest} at most.` : "This setting failed on this photo.";
}
function showVerdicts() {
  for (const [place, button] of [...at("strip").querySelectorAll("button")].entries())
    button.classList.toggle("left-alone", verdict(mine(samples[place])) !== "restore");
  if (!samples.length) return;
  const photo = mine(samples[current]), is = verdict(photo);
  at("verdict").className = `verdict ${is}`;
  at("verdict").textContent = `${is === "restore" ? "Restored" : "Left alone"} at ${line}: quality ${inPlot(photo) ? `${exact(photo.header)} by the file, ` : ""}${exact(photo.estimate)} by the pixels`;
}
function showMarks() {
  if (!samples.length) return;
  const photo = mine(samples[current]), is = verdict(photo), vote = votes.get(current);
  for (const button of at("kind").children) button.setAttribute("aria-pressed", String((button.dataset.kind === "restore") === (is === "restore")));
  at("kind").querySelector("[data-kind=restore]").disabled = photo.quality >= 100;
  at("best").setAttribute("aria-pressed", String(vote === setting));
  at("less").disabled = beside(setting, -1) < 0;
  at("more").disabled = beside(setting, 1) < 0;
  for (const [place, button] of [...at("strip").querySelectorAll("button")].entries()) {
    const own = votes.get(place), tag = button.querySelector("em");
    tag.hidden = own == null;
    tag.textContent = own == null ? "" : `★ ${own + 1}`;
  }
}
// "This kind" is what the line can tell apart: photos as good as this one, and better or worse.
function markKind(kind) {
  const {quality} = mine(samples[current]), is = verdict(mine(samples[current]));
  if ((kind === "restore") === (is === "restore")) return;
  moveLine(kind === "leave" ? Math.floor(quality) : Math.floor(quality) + 1);
}
function markBest(index = setting) {
  if (index < 0) return;
  if (index === setting && votes.get(current) === index) votes.delete(current); else votes.set(current, index);
  chooseSetting(index);
}

// --- Every photo: only visible rows are created -----------------------------------------------------------------------
let listed = [];
function showRows() {
  const words = at("words").value.toLowerCase(), which = at("which").value;
  listed = told.photos.filter(photo => (!which || verdict(photo) === which) && `${photo.folder}/${photo.name}`.toLowerCase().includes(words));
  const by = {
    line: (a, b) => Math.abs(a.quality - line) - Math.abs(b.quality - line),
    quality: (a, b) => a.quality - b.quality,
    name: (a, b) => a.name < b.name ? -1 : 1,
  }[at("order").value];
  listed.sort(by);
  at("listed").textContent = `${listed.length.toLocaleString("en")} of ${told.photos.length.toLocaleString("en")}`;
  at("list").setAttribute("aria-rowcount", listed.length);
  scrollRows();
}
function scrollRows() {
  const high = 2.6 * parseFloat(getComputedStyle(document.documentElement).fontSize), list = at("list");
  at("rows").style.height = `${listed.length * high}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / high) - 4), last = Math.min(listed.length, first + Math.ceil(list.clientHeight / high) + 8);
  at("rows").replaceChildren(...listed.slice(first, last).map((photo, place) => {
    const is = verdict(photo), cell = (className, ...children) => { const made = element("span", {className}, ...children); made.setAttribute("role", "cell"); return made; };
    const name = photo.link ? element("a", {href: photo.link, target: "_blank", rel: "noopener"}, photo.name) : photo.name;
    const says = {restore: "restored", leave: "left alone", unsure: "not certain"}[is] ?? is;
    const row = element("div", {title: `${photo.folder}: ${photo.reason ?? says}`}, cell("", name),
      cell(`verdict ${is}`, says), cell("number", photo.header == null ? "" : exact(photo.header)), cell("number", photo.estimate == null ? "" : exact(photo.estimate)),
      cell("size number faint", photo.reason ?? `${photo.size[0]}×${photo.size[1]}`));
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", first + place + 1);
    row.style.top = `${(first + place) * high}px`;
    return row;
  }));
}

// --- Input ----------------------------------------------------------------------------------------------------------
function dragLine(canvas, chart, read, starts) {
  canvas.onpointerdown = event => {
    if (event.button || !starts(event.offsetX, event.offsetY)) return;
    canvas.setPointerCapture(event.pointerId);
    moveLine(Math.round(read(event.offsetX, event.offsetY)));
  };
  canvas.onpointermove = event => {
    if (canvas.hasPointerCapture(event.pointerId)) moveLine(Math.round(read(event.offsetX, event.offsetY)));
    else canvas.style.cursor = starts(event.offsetX, event.offsetY, true) ? "grab" : "";
    canvas.title = chart.says?.(event.offsetX) ?? "";
  };
}
dragLine(histogram.chart.canvas, histogram, x => histogram.at(x), () => true);
let upwards = false;
dragLine(plot.chart.canvas, plot, (x, y) => plot.at(x, y)[upwards ? 1 : 0], (x, y, hover) => {
  const [header, estimate] = plot.at(x, y);
  if (!hover) {
    const near = samples.map(mine).findIndex(photo => { const [px, py] = plot.place(photo.header, photo.estimate); return inPlot(photo) && Math.hypot(px - x, py - y) < 12; });
    if (near >= 0) { choosePhoto(near); return false; }
  }
  const [left, low] = [Math.abs(header - line) < 5 && estimate > line - 5, Math.abs(estimate - line) < 5 && header > line - 5];
  if (!hover) upwards = !left && low;
  return left || low;
});
async function copy() {
  const text = command();
  try { await navigator.clipboard.writeText(text); } catch {
    // Where a page from disk may not use the clipboard, a selection may still be copied.
    const range = document.createRange();
    range.selectNodeContents(at("command"));
    getSelection().removeAllRanges(); getSelection().addRange(range);
    document.execCommand("copy");
  }
  at("copy").textContent = "Copied";
  say("Command copied");
  setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
}
const KEYS = {
  ArrowLeft: () => choosePhoto(current - 1), ArrowRight: () => choosePhoto(current + 1), " ": () => viewer.set({peeking: true}), 0: () => viewer.set({peeking: true}),
  ",": () => viewer.moveEdge(-.05), ".": () => viewer.moveEdge(.05), z: () => viewer.zoomTo(viewer.scale === 3 ? 1 : 3),
  m: () => viewer.set({difference: !viewer.difference}), r: () => markKind("restore"), l: () => markKind("leave"), b: () => markBest(),
  "-": () => markBest(beside(setting, -1)), "+": () => markBest(beside(setting, 1)), "=": () => markBest(beside(setting, 1)), c: copy,
  w: () => viewer.pan(0, 40), s: () => viewer.pan(0, -40), a: () => viewer.pan(40, 0), d: () => viewer.pan(-40, 0),
};
addEventListener("keydown", event => {
  if (isTyping(event) || !samples.length || (event.key === " " && event.target.closest("button, summary, a, pre, #list"))) return;
  const digit = /^Digit([1-9])$/.exec(event.code), act = digit ? () => chooseSetting(+digit[1] - 1, event.shiftKey) : KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
  if (act) { event.preventDefault(); act(); }
});
addEventListener("keyup", event => { if (/^[ 0]$/.test(event.key) && viewer.peeking) viewer.set({peeking: false}); });
// After a click, keys act on the page again: Space shows the original instead of clicking once more.
addEventListener("click", event => { if (event.detail && event.target.closest("#compare button")) document.activeElement.blur(); });
addEventListener("blur", () => viewer.set({peeking: false}));

// --- Start ----------------------------------------------------------------------------------------------------------
at("about").textContent = `${count(told.photos.length, "photo")} in ${told.paths.slice(0, 3).join(", ")}${told.paths.length > 3 ? ` and ${told.paths.length - 3} more` : ""}. ${at("made").textContent}`;
at("chosen").textContent = `${count(samples.length, "photo")} that ${samples.length === 1 ? "stands" : "stand"} for the others, under ${count(settings.length, "setting")}.`;
at("strip").append(...samples.map((sample, place) => {
  const photo = mine(sample), button = element("button", {type: "button", title: photo.name, onclick: () => choosePhoto(place)},
    element("img", {src: sample.whole, alt: ""}), element("i", {}, String(place + 1)), element("em", {hidden: true}),
    element("span", {}, `${Math.max(0, Math.floor(photo.quality))} · ${photo.name}`));
  button.setAttribute("aria-label", `${place + 1}: ${photo.name}, quality ${exact(photo.quality)}`);
  return element("li", {}, button);
}));
at("settings").append(...settings.map(({words}, place) => element("button", {type: "button", onclick: event => chooseSetting(place, event.shiftKey)},
  `${words} `, ...(place < 9 ? [element("kbd", {}, String(place + 1))] : []))));
for (const button of at("zooms").children) button.onclick = () => viewer.zoomTo(+button.dataset.zoom);
at("difference").onclick = KEYS.m;
for (const button of at("kind").children) button.onclick = () => markKind(button.dataset.kind);
at("best").onclick = () => markBest();
at("less").onclick = KEYS["-"];
at("more").onclick = KEYS["+"];
at("edge").oninput = () => viewer.set({edge: at("edge").value / 100});
at("line").oninput = () => moveLine(Math.round(at("line").value));
at("copy").onclick = copy;
at("shell").value = told.shell;
at("shell").onchange = update;
for (const id of ["words", "which", "order"]) at(id).oninput = () => { at("list").scrollTop = 0; showRows(); };
at("list").onscroll = scrollRows;
addEventListener("resize", scrollRows);
at("margin").hidden = judged.every(photo => photo.estimate != null);
at("compare").hidden = !samples.length;
at("table").tBodies[0].append(...[10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100].map(value =>
  element("tr", {}, ...[value, "", "", ""].map(text => element("td", {}, String(text))))));
at("table").closest("details").ontoggle = () => {
  for (const row of at("table").tBodies[0].rows) {
    const sum = totals(+row.cells[0].textContent);
    row.cells[1].textContent = range(sum.restore, sum.restore + sum.unsure, String);
    row.cells[2].textContent = range(sum.megapixels, sum.most, value => value.toFixed(1));
    row.cells[3].textContent = time(sum);
  }
};
viewer.scale = innerWidth < 700 ? 1 : 3;
choosePhoto(0);
moveLine(line);
