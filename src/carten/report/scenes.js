// Structures on a canvas: balls and sticks that turn, and films of them.
const decoded = ({ step, data }) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return Float64Array.from(new Int16Array(bytes.buffer), (whole) => whole * step);
};
const CORNERS = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => [bits & 1, (bits >> 1) & 1, (bits >> 2) & 1]);
const EDGES = CORNERS.flatMap((_, i) => [1, 2, 4].filter((bit) => !(i & bit)).map((bit) => [i, i | bit]));
const MAX_BONDED = 800; // atoms: above, only balls are drawn
const PERIOD = 1600; // ms of one turn of a film that goes round
const balls = new Map();

const ball = (colour) => {
  if (balls.has(colour)) return balls.get(colour);
  const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 96 });
  const context = canvas.getContext("2d");
  const shade = context.createRadialGradient(36, 34, 4, 48, 48, 47);
  shade.addColorStop(0, `color-mix(in srgb, ${colour} 45%, white)`);
  shade.addColorStop(0.35, colour);
  shade.addColorStop(1, `color-mix(in srgb, ${colour} 62%, black)`);
  context.fillStyle = shade;
  context.beginPath();
  context.arc(48, 48, 47, 0, 2 * Math.PI);
  context.fill();
  balls.set(colour, canvas);
  return canvas;
};

const times = (a, b) => [0, 1, 2].map((i) => [0, 1, 2].map((j) => a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j]));
const about = (axis, angle) => {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return axis === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
};
const apply = (m, x, y, z) => m.map((row) => row[0] * x + row[1] * y + row[2] * z);

class StructureView {
  constructor(figure, scene) {
    Object.assign(this, { figure, scene, turn: times(about("x", -1.15), about("y", 0.35)), zoom: 1, frame: 0, playing: false });
    this.canvas = figure.querySelector("canvas");
    this.select = figure.querySelector("select");
    this.slider = figure.querySelector("input");
    this.button = figure.querySelector(".play");
    this.select.addEventListener("change", () => this.show(this.select.selectedIndex));
    this.slider.addEventListener("input", () => { this.stop(); this.seek(Number(this.slider.value)); });
    this.button.addEventListener("click", () => this.playing ? this.stop() : this.play());
    this.canvas.addEventListener("pointerdown", (event) => this.canvas.setPointerCapture(event.pointerId));
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) this.rotate(event.movementX / 120, event.movementY / 120);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.show(0);
    figure.dataset.state = "ready";
  }

  get frames() { return this.positions.length / (3 * this.clip.numbers.length) || 1; }

  show(index) {
    const { clips } = this.scene;
    this.stop();
    this.index = (index + clips.length) % clips.length;
    this.clip = clips[this.index];
    this.positions = decoded(this.clip.positions);
    this.size = this.extent();
    this.select.selectedIndex = this.index;
    this.select.disabled = clips.length < 2;
    this.figure.querySelector(".count").textContent =
      [clips.length > 1 ? `${this.index + 1} of ${clips.length}` : "", this.clip.remark ?? ""].filter((text) => text).join(", ");
    for (const button of this.figure.querySelectorAll("[data-turn]")) button.hidden = clips.length < 2;
    this.figure.querySelector(".film").hidden = this.frames < 2;
    this.slider.max = this.frames - 1;
    const legend = this.figure.querySelector(".elements");
    legend.textContent = "";
    for (const number of new Set(this.clip.colours ? [] : this.clip.numbers)) {
      const [symbol, colour] = this.scene.elements[number];
      const dot = document.createElement("i");
      dot.style.background = colour;
      const name = document.createElement("span");
      name.append(dot, symbol);
      legend.append(name);
    }
    this.seek(0);
  }

  links() { return this.figure.closest("section").querySelectorAll("[data-show]"); }

  extent() {
    let most = 1.2;
    for (let i = 0; i < this.positions.length; i += 3) {
      most = Math.max(most, Math.hypot(this.positions[i], this.positions[i + 1], this.positions[i + 2]));
    }
    for (const corner of this.corners(0)) most = Math.max(most, Math.hypot(...corner));
    return most + 0.9;
  }

  corners(frame) {
    const { cells, origin } = this.clip;
    if (!cells.length) return [];
    const cell = cells[Math.min(frame, cells.length - 1)];
    return CORNERS.map((c) => [0, 1, 2].map((k) => origin[k] + c[0] * cell[0][k] + c[1] * cell[1][k] + c[2] * cell[2][k]));
  }

  seek(frame) {
    this.frame = Math.round(frame);
    this.slider.value = this.frame;
    this.figure.querySelector(".frame").textContent = `${this.frame + 1} of ${this.frames}`;
    for (const link of this.links()) {
      link.toggleAttribute("aria-current", Number(link.dataset.show) === this.index && Number(link.dataset.frame) === this.frame);
    }
    this.draw();
  }

  play() {
    const first = !this.scene.loop && this.frame === this.frames - 1 ? 0 : this.frame;
    const pace = this.scene.loop ? PERIOD / this.frames : Math.max(40, Math.min(250, 6000 / this.frames));
    const start = performance.now();
    this.playing = true;
    this.button.textContent = "❚❚";
    this.button.ariaLabel = "pause";
    const tick = (now) => {
      if (!this.playing) return;
      const frame = first + Math.max(0, Math.floor((now - start) / pace));
      const last = this.frames - 1;
      if (!this.scene.loop && frame >= last) { this.seek(last); return this.stop(); }
      if (frame % this.frames !== this.frame) this.seek(frame % this.frames);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  stop() {
    this.playing = false;
    this.button.textContent = "▶";
    this.button.ariaLabel = "play";
  }

  rotate(right, down) {
    this.turn = times(times(about("y", right), about("x", down)), this.turn);
    this.draw();
  }

  key(event) {
    const turns = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
    const zooms = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
    if (turns[event.key]) this.rotate(...turns[event.key]);
    else if (zooms[event.key]) { this.zoom *= zooms[event.key]; this.draw(); }
    else if (event.key === " ") this.button.click();
    else return;
    event.preventDefault();
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !this.clip) return;
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(ratio * width), Math.round(ratio * height)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.translate(width / 2, height / 2);
    this.unit = this.zoom * Math.min(width, height) / (2 * this.size);
    const style = getComputedStyle(document.documentElement);
    this.lines(context, style.getPropertyValue("--muted"));
    const items = [...this.atoms(), ...this.bonds(), ...this.arrows(style.getPropertyValue("--ink"))];
    items.sort((one, other) => one.depth - other.depth);
    for (const item of items) item.paint(context);
  }

  at(x, y, z) {
    const [a, b, c] = apply(this.turn, x, y, z);
    return [this.unit * a, -this.unit * b, c];
  }

  lines(context, colour) {
    const corners = this.corners(this.frame).map((corner) => this.at(...corner));
    if (!corners.length) return;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    for (const [i, j] of EDGES) { context.moveTo(corners[i][0], corners[i][1]); context.lineTo(corners[j][0], corners[j][1]); }
    context.stroke();
  }

  place(atom) {
    const start = 3 * (this.frame * this.clip.numbers.length + atom);
    return this.positions.subarray(start, start + 3);
  }

  radius(atom) { return 0.3 * this.scene.elements[this.clip.numbers[atom]][2] + 0.12; }

  colour(atom) { return this.clip.colours ? this.clip.colours[atom] : this.scene.elements[this.clip.numbers[atom]][1]; }

  atoms() {
    return this.clip.numbers.map((_, atom) => {
      const [x, y, depth] = this.at(...this.place(atom));
      const radius = this.unit * this.radius(atom);
      const picture = ball(this.colour(atom));
      return { depth, paint: (context) => context.drawImage(picture, x - radius, y - radius, 2 * radius, 2 * radius) };
    });
  }

  bonds() {
    const { numbers } = this.clip;
    const found = [];
    if (numbers.length > MAX_BONDED) return found;
    const reach = numbers.map((number) => this.scene.elements[number][2]);
    const places = numbers.map((_, atom) => this.place(atom));
    for (let i = 0; i < numbers.length; i += 1) {
      for (let j = 0; j < i; j += 1) {
        const [p, q] = [places[i], places[j]];
        if (Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) > 1.2 * (reach[i] + reach[j])) continue;
        const [a, b] = [this.at(...p), this.at(...q)];
        const middle = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
        found.push(this.stick(a, middle, this.colour(i), (3 * a[2] + b[2]) / 4), this.stick(b, middle, this.colour(j), (a[2] + 3 * b[2]) / 4));
      }
    }
    return found;
  }

  stick(from, to, colour, depth, thickness = 0.2) {
    return { depth, paint: (context) => {
      for (const [share, shade] of [[1, `color-mix(in srgb, ${colour} 60%, black)`], [0.55, colour]]) {
        context.strokeStyle = shade;
        context.lineWidth = share * thickness * this.unit;
        context.beginPath();
        context.moveTo(from[0], from[1]);
        context.lineTo(to[0], to[1]);
        context.stroke();
      }
    } };
  }

  arrows(colour) {
    return (this.clip.arrows ?? []).map(([x, y, z], atom) => {
      const p = this.place(atom);
      const [a, b] = [this.at(...p), this.at(p[0] + x, p[1] + y, p[2] + z)];
      const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
      const length = Math.hypot(dx, dy) || 1;
      const head = Math.min(0.3 * this.unit, 0.5 * length);
      const [ux, uy] = [dx / length * head, dy / length * head];
      return { depth: Math.max(a[2], b[2]) + 0.01, paint: (context) => {
        [context.strokeStyle, context.fillStyle, context.lineWidth] = [colour, colour, Math.max(1.2, 0.07 * this.unit)];
        context.beginPath();
        context.moveTo(a[0], a[1]);
        context.lineTo(b[0] - ux, b[1] - uy);
        context.stroke();
        context.beginPath();
        context.moveTo(b[0], b[1]);
        context.lineTo(b[0] - ux - 0.5 * uy, b[1] - uy + 0.5 * ux);
        context.lineTo(b[0] - ux + 0.5 * uy, b[1] - uy - 0.5 * ux);
        context.fill();
      } };
    });
  }
}

for (const figure of document.querySelectorAll("[data-scene]")) {
  unpack(document.getElementById("scene-" + figure.dataset.scene).textContent).then((text) => {
    const view = new StructureView(figure, JSON.parse(text));
    figure.closest("section").addEventListener("click", (event) => {
      const link = event.target.closest("[data-show], [data-turn]");
      if (link === null) return;
      view.show(link.dataset.show === undefined ? view.index + Number(link.dataset.turn) : Number(link.dataset.show));
      if (link.dataset.frame) view.seek(Number(link.dataset.frame));
      if (link.dataset.show !== undefined) figure.scrollIntoView({ block: "center" });
    });
  }).catch((error) => {
    figure.dataset.state = "failed";
    figure.querySelector("figcaption").textContent = "The structures cannot be shown in this browser: " + error.message;
  });
}
