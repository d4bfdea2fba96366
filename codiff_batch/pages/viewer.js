// Pictures of one size in one place: two of them split by an edge, or their difference map.
class Viewer {
  constructor(stage, {wheel = false, onchange = () => {}} = {}) {
    this.stage = stage;
    this.onchange = onchange;
    this.picture = element("div", {className: "picture"});
    this.edgeLine = element("div", {className: "edge"});
    this.tags = ["left", "right"].map(side => element("span", {className: `tag ${side}`}));
    stage.classList.add("stage");
    stage.append(this.picture, this.edgeLine, ...this.tags);
    Object.assign(this, {pictures: [], left: 0, right: 1, edge: .5, scale: 1, x: 0, y: 0, difference: false, peeking: false});
    stage.onpointerdown = event => this.#press(event);
    stage.onpointermove = event => this.#drag(event);
    stage.onlostpointercapture = () => { this.dragging = ""; };
    if (wheel) stage.onwheel = event => { event.preventDefault(); this.zoom(event.deltaY < 0 ? 1.25 : .8); };
    new ResizeObserver(() => this.place()).observe(stage);
  }

  // Pictures {name, src}; their size where it is known, else that of the first once it is there.
  show(pictures, width = 0, height = 0) {
    Object.assign(this, {pictures, width, height});
    this.images = pictures.map(({name, src}) => {
      const image = element("img", {alt: name, draggable: false});
      image.onload = () => {
        if (!width && image === this.images[0]) Object.assign(this, {width: image.naturalWidth, height: image.naturalHeight});
        this.place();
      };
      image.src = src;
      return image;
    });
    this.picture.replaceChildren(...this.images);
    this.right = Math.min(this.right, pictures.length - 1);
    this.left = Math.min(this.left, pictures.length - 1);
    this.place();
  }

  set(values) { Object.assign(this, values); this.place(); this.onchange(); }
  zoom(factor) { this.zoomTo(this.scale * factor); }
  zoomTo(scale) {
    const now = Math.min(16, Math.max(1 / 16, scale));
    this.set({x: this.x * now / this.scale, y: this.y * now / this.scale, scale: now});
  }
  pan(dx, dy) { this.set({x: this.x + dx, y: this.y + dy}); }
  moveEdge(by) { this.set({edge: Math.min(1, Math.max(0, this.edge + by))}); }

  // The picture's part of the stage, in the stage's pixels.
  #bounds() {
    const {clientWidth, clientHeight} = this.stage, wide = this.width * this.scale, high = this.height * this.scale;
    const left = clientWidth / 2 + this.x - wide / 2, top = clientHeight / 2 + this.y - high / 2;
    return {left, wide, from: Math.max(0, left), to: Math.min(clientWidth, left + wide),
      whole: wide <= clientWidth && high <= clientHeight && top >= 0 && left >= 0};
  }

  place() {
    const {clientWidth, clientHeight} = this.stage, keep = 60;
    const reach = [clientWidth + this.width * this.scale, clientHeight + this.height * this.scale].map(side => Math.max(0, side / 2 - keep));
    this.x = Math.min(reach[0], Math.max(-reach[0], this.x));
    this.y = Math.min(reach[1], Math.max(-reach[1], this.y));
    const {left, wide, from, to, whole} = this.#bounds(), edge = from + (to - from) * this.edge;
    const both = this.pictures.length > 1 && !this.difference && !this.peeking && this.left !== this.right;
    Object.assign(this.picture.style, {width: `${this.width}px`, height: `${this.height}px`,
      transform: `translate(${this.x}px, ${this.y}px) scale(${this.scale}) translate(-50%, -50%)`});
    this.picture.classList.toggle("magnified", this.scale >= 2);
    this.picture.classList.toggle("difference", this.difference && !this.peeking);
    const front = this.peeking ? this.left : this.right;
    this.images?.forEach((image, index) => {
      const onLeft = index === this.left && !this.peeking;
      image.classList.toggle("left", onLeft);
      image.style.visibility = index === front || (onLeft && (both || this.difference)) ? "visible" : "hidden";
      image.style.zIndex = onLeft ? 1 : 0;
      image.style.clipPath = onLeft && both && wide ? `inset(0 ${100 * Math.min(1, Math.max(0, 1 - (edge - left) / wide))}% 0 0)` : "none";
    });
    this.stage.style.touchAction = whole ? "pan-y" : "none"; // where nothing can move, a finger scrolls the page
    this.edgeLine.hidden = !both;
    this.edgeLine.style.left = `${edge}px`;
    const names = this.difference && !this.peeking && this.pictures.length > 1 ? [`difference ×8: ${this.pictures[this.left].name} and ${this.pictures[this.right].name}`, ""]
      : both ? [this.pictures[this.left].name, this.pictures[this.right].name] : [this.pictures[front]?.name ?? "", ""];
    this.tags.forEach((tag, index) => { tag.textContent = names[index]; tag.hidden = !names[index]; });
    this.tags[0].style.maxWidth = names[1] ? "" : "calc(100% - 1.2rem)";
  }

  #press(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    const {whole} = this.#bounds(), line = this.edgeLine.getBoundingClientRect();
    const near = !this.edgeLine.hidden && Math.abs(event.clientX - line.left) < 28;
    this.dragging = near || (whole && !this.edgeLine.hidden) ? "edge" : "picture";
    if (this.dragging === "edge") this.#drag(event);
  }
  #drag(event) {
    if (!this.stage.hasPointerCapture(event.pointerId)) return;
    if (this.dragging !== "edge") return this.pan(event.movementX, event.movementY);
    const {from, to} = this.#bounds(), x = event.clientX - this.stage.getBoundingClientRect().left;
    this.set({edge: Math.min(1, Math.max(0, (x - from) / (to - from || 1)))});
  }
}
