// Charts on canvases: sharp on any screen, redrawn when the page's colours or size change.
class Chart {
  constructor(canvas, height, draw) {
    this.canvas = canvas;
    this.draw = draw;
    this.height = height;
    new ResizeObserver(() => this.redraw()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }
  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const {canvas} = this, width = canvas.parentElement.clientWidth, sharp = devicePixelRatio || 1;
      this.size = {width, height: typeof this.height === "function" ? this.height(width) : this.height};
      canvas.style.height = `${this.size.height}px`;
      const [wide, high] = [width, this.size.height].map(side => Math.round(side * sharp));
      if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, {width: wide, height: high});
      const pen = canvas.getContext("2d");
      pen.setTransform(sharp, 0, 0, sharp, 0, 0);
      pen.clearRect(0, 0, width, this.size.height);
      pen.font = "12px system-ui, sans-serif";
      this.draw(pen, this.size, colours());
    });
  }
}

function colours() {
  const probe = colours.probe ??= document.body.appendChild(element("i", {hidden: true}));
  return Object.fromEntries(["text", "faint", "line", "restore", "leave", "edge", "failed", "card"].map(name => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  }));
}

function hatch(pen, colour) {
  const tile = Object.assign(document.createElement("canvas"), {width: 6, height: 6}), brush = tile.getContext("2d");
  Object.assign(brush, {strokeStyle: colour, lineWidth: 1.6});
  brush.beginPath();
  for (const x of [-6, 0, 6]) { brush.moveTo(x, 6); brush.lineTo(x + 6, 0); }
  brush.stroke();
  return pen.createPattern(tile, "repeat");
}

// Quality by the file on the x axis, by the pixels on the y axis; photos that were saved again lie below the diagonal.
// Photos are {header, estimate}; those without an estimate are drawn in the margin below.
class QualityPlot {
  constructor(canvas, photos, {line = () => null, marks = () => []} = {}) {
    this.line = line;
    this.marks = marks;
    this.cells = new Map();
    const unseen = photos.some(({estimate}) => estimate == null);
    this.pad = {left: 46, right: 12, top: 10, bottom: unseen ? 62 : 40};
    for (const {header, estimate, quality} of photos) {
      // Whole numbers, rounded down: a line at a whole number then parts the cells exactly.
      const cell = `${Math.floor(header)},${estimate == null ? -1 : Math.floor(estimate)},${Math.floor(quality ?? Math.min(header, estimate))}`;
      this.cells.set(cell, (this.cells.get(cell) ?? 0) + 1);
    }
    this.chart = new Chart(canvas, width => Math.min(width, 420), (...args) => this.#draw(...args));
  }
  redraw() { this.chart.redraw(); }
  place(header, estimate) {
    const {pad} = this, {width, height} = this.chart.size, high = height - pad.top - pad.bottom;
    return [pad.left + (width - pad.left - pad.right) * header / 100, estimate == null ? height - 48 : pad.top + high * (1 - estimate / 100)];
  }
  // The quality at a place of the canvas, across and upwards.
  at(x, y) {
    const {width, height} = this.chart.size, {pad} = this;
    return [100 * (x - pad.left) / (width - pad.left - pad.right), 100 * (1 - (y - pad.top) / (height - pad.top - pad.bottom))];
  }
  #draw(pen, size, colour) {
    const [left, bottom] = this.place(0, 0), [right, top] = this.place(100, 100), line = this.line();
    if (line != null) {
      const [x, y] = this.place(line, line);
      pen.globalAlpha = .1;
      pen.fillStyle = colour.restore;
      pen.fillRect(left, top, x - left, bottom - top);
      pen.fillRect(x, y, right - x, bottom - y);
      pen.globalAlpha = 1;
    }
    Object.assign(pen, {strokeStyle: colour.line, lineWidth: 1});
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.setLineDash([4, 4]);
    pen.beginPath(); pen.moveTo(left, bottom); pen.lineTo(right, top); pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = colour.faint;
    for (const value of [0, 25, 50, 75, 100]) {
      const [x, y] = this.place(value, value);
      Object.assign(pen, {textAlign: value === 100 ? "right" : "center", textBaseline: "top"});
      pen.fillText(value, x + (value === 100 ? 4 : 0), size.height - 34);
      Object.assign(pen, {textAlign: "right", textBaseline: "middle"});
      if (value) pen.fillText(value, left - 6, y + (value === 100 ? 4 : 0));
    }
    Object.assign(pen, {textAlign: "center", textBaseline: "top"});
    pen.fillText("quality by the file", (left + right) / 2, size.height - 16);
    pen.save();
    pen.translate(4, (top + bottom) / 2); pen.rotate(-Math.PI / 2);
    pen.fillText("quality by the pixels", 0, 0);
    pen.restore();
    for (const [cell, many] of this.cells) {
      const [header, estimate, quality] = cell.split(",").map(Number), unseen = estimate < 0;
      const [x, y] = this.place(header, unseen ? null : estimate + .5);
      const restored = line != null && quality < line;
      pen.globalAlpha = .55;
      pen.beginPath(); pen.arc(x, y, Math.min(9, 2 + Math.sqrt(many)), 0, 7);
      if (unseen) { Object.assign(pen, {strokeStyle: restored || line == null ? colour.restore : colour.leave, lineWidth: 1.5}); pen.stroke(); }
      else { pen.fillStyle = restored || line == null ? colour.restore : colour.leave; pen.fill(); }
    }
    pen.globalAlpha = 1;
    if (line != null) {
      const [x, y] = this.place(line, line);
      Object.assign(pen, {strokeStyle: colour.edge, lineWidth: 2});
      pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, y); pen.lineTo(right, y); pen.stroke();
      pen.fillStyle = colour.edge;
      pen.beginPath(); pen.arc(x, y, 6, 0, 7); pen.fill();
    }
    for (const {header, estimate, label, current} of this.marks()) {
      const [x, y] = this.place(header, estimate);
      pen.beginPath(); pen.arc(x, y, 9, 0, 7);
      pen.fillStyle = current ? colour.text : colour.card; pen.fill();
      Object.assign(pen, {strokeStyle: colour.text, lineWidth: 1.5}); pen.stroke();
      Object.assign(pen, {fillStyle: current ? colour.card : colour.text, textAlign: "center", textBaseline: "middle"});
      pen.fillText(label, x, y + .5);
    }
  }
}

// One bar for each quality factor, so that a whole number for a line parts them exactly.
class Histogram {
  static PAD = {left: 12, right: 12, top: 16, bottom: 22};
  constructor(canvas, photos, line) {
    this.line = line;
    this.bars = Array.from({length: 101}, () => ({seen: 0, unseen: 0}));
    for (const {quality, estimate} of photos) this.bars[Math.min(100, Math.max(0, Math.floor(quality)))][estimate == null ? "unseen" : "seen"]++;
    this.chart = new Chart(canvas, width => width < 500 ? 190 : 330, (...args) => this.#draw(...args));
  }
  redraw() { this.chart.redraw(); }
  place(quality) {
    const pad = Histogram.PAD;
    return pad.left + (this.chart.size.width - pad.left - pad.right) * quality / 101;
  }
  at(x) {
    const pad = Histogram.PAD;
    return 101 * (x - pad.left) / (this.chart.size.width - pad.left - pad.right);
  }
  says(x) {
    const value = Math.floor(this.at(x)), bar = this.bars[value];
    return bar ? `quality ${value}: ${count(bar.seen + bar.unseen, "photo")}` : "";
  }
  #draw(pen, size, colour) {
    const pad = Histogram.PAD, bottom = size.height - pad.bottom, high = bottom - pad.top - 12, line = this.line();
    const most = Math.max(1, ...this.bars.map(bar => bar.seen + bar.unseen));
    pen.fillStyle = colour.faint;
    Object.assign(pen, {textBaseline: "top", textAlign: "left"});
    for (const value of [0, 20, 40, 60, 80, 100]) {
      Object.assign(pen, {textAlign: value === 100 ? "right" : value ? "center" : "left"});
      pen.fillText(value, this.place(value) + (value === 100 ? pad.right - 2 : 0), bottom + 6);
    }
    const step = this.place(1) - this.place(0), gap = step > 4 ? 1 : step > 2.5 ? .5 : 0;
    const patterns = {[colour.restore]: null, [colour.leave]: null};
    this.bars.forEach(({seen, unseen}, value) => {
      const x = this.place(value), paint = value < line ? colour.restore : colour.leave;
      // The root, because one kind of a thousand must not hide the others.
      const tall = Math.sqrt((seen + unseen) / most) * high, share = seen + unseen ? seen / (seen + unseen) : 0;
      pen.fillStyle = paint;
      pen.fillRect(x, bottom - tall * share, step - gap, tall * share);
      if (unseen) {
        pen.fillStyle = value < line ? paint : patterns[paint] ??= hatch(pen, paint);
        pen.fillRect(x, bottom - tall, step - gap, tall * (1 - share));
      }
    });
    Object.assign(pen, {strokeStyle: colour.line, lineWidth: 1});
    pen.beginPath(); pen.moveTo(pad.left, bottom + .5); pen.lineTo(size.width - pad.right, bottom + .5); pen.stroke();
    const x = this.place(line);
    Object.assign(pen, {strokeStyle: colour.edge, lineWidth: 2});
    pen.beginPath(); pen.moveTo(x, pad.top); pen.lineTo(x, bottom + 4); pen.stroke();
    const label = `${line}`, wide = pen.measureText(label).width + 14, mid = Math.min(size.width - wide / 2 - 1, Math.max(wide / 2 + 1, x));
    pen.fillStyle = colour.edge;
    pen.beginPath(); pen.roundRect(mid - wide / 2, 0, wide, 19, 9); pen.fill();
    Object.assign(pen, {fillStyle: colour.card, textAlign: "center", textBaseline: "middle"});
    pen.fillText(label, mid, 10);
  }
}
