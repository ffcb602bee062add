// What is drawn on the picture: septum and ventricle with key frames, the sector, the M-mode line.

const COLOURS = { septum: "#f0e442", ventricle: "#56b4e9", sector: "#e69f00", line: "#cc79a7" };
const NEAR = 10; // CSS pixels at which a corner is caught

/** Corners at `t` in [0, 1] between two polygons; where they have different numbers of corners, the nearer one. */
export function between(from, to, t) {
  if (from.length !== to.length) return t < 0.5 ? from : to;
  return from.map(([x, y], k) => [x + t * (to[k][0] - x), y + t * (to[k][1] - y)]);
}

/** The polygon of a frame from key frames {frame: polygon}; null if there are none. */
export function polygonAt(keys, frame) {
  const set = Object.keys(keys).map(Number).sort((a, b) => a - b);
  if (!set.length) return null;
  const before = set.filter((key) => key <= frame).at(-1), after = set.find((key) => key >= frame);
  if (before === undefined) return keys[after];
  if (after === undefined || after === before) return keys[before];
  return between(keys[before], keys[after], (frame - before) / (after - before));
}

export class Outlines extends EventTarget {
  constructor(player) {
    super();
    this.player = player;
    this.keys = { septum: {}, ventricle: {} };
    this.line = null; // [[x, y], [x, y]]
    this.sector = [];
    this.showSector = true;
    this.mode = null; // septum, ventricle, sector, line
    this.open = null; // corners of the polygon that is being drawn
    this.held = null;
    player.pointer = (event, kind, at) => this._pointer(event, kind, at);
    player.addEventListener("drawn", (event) => this._draw(event.detail));
    for (const event of ["change", "mode"]) this.addEventListener(event, () => this._keep());
  }

  start(mode) {
    this.mode = mode;
    this.open = mode === null ? null : [];
    if (mode === "line") this.line = null;
    if (mode !== null) this.player.play(false);
    this.dispatchEvent(new Event("mode"));
  }

  clear() {
    [this.keys, this.line] = [{ septum: {}, ventricle: {} }, null];
    this.start(null);
    this.dispatchEvent(new Event("change"));
  }

  /** Show what was drawn on a clip. It is kept in this tab, by the clip's key. */
  restore(clip) {
    if (clip === this.clip) return;
    [this.clip, this.held] = [clip, null];
    const kept = JSON.parse(sessionStorage.getItem(`drawn ${clip}`));
    [this.keys, this.line] = [kept?.keys ?? { septum: {}, ventricle: {} }, kept?.line ?? null];
    this.start(null);
  }

  static forget(clip) {
    sessionStorage.removeItem(`drawn ${clip}`);
  }

  _keep() {
    if (this.clip) sessionStorage.setItem(`drawn ${this.clip}`, JSON.stringify({ keys: this.keys, line: this.line }));
  }

  any() {
    return Object.values(this.keys).some((keys) => Object.keys(keys).length > 0);
  }

  /** The polygon of every frame, or null. */
  polygons() {
    const frames = Array.from({ length: this.player.film.frames }, (_, frame) => frame);
    return Object.fromEntries(Object.entries(this.keys).map(([name, keys]) => [name, frames.map((frame) => polygonAt(keys, frame))]));
  }

  /** Set a region in the present frame. */
  setKey(name, polygon) {
    this.keys[name][this.player.frame] = polygon;
    this.dispatchEvent(new Event("change"));
    this.player.draw();
  }

  finish() {
    const { mode, open } = this;
    if (!mode || open.length < (mode === "line" ? 2 : 3)) return;
    this.start(null);
    if (mode === "line") this.line = open.slice(0, 2);
    else if (mode === "sector") this.dispatchEvent(new CustomEvent("sector", { detail: open }));
    else this.setKey(mode, open);
    this.dispatchEvent(new Event("mode"));
  }

  key(event) {
    if (this.mode === null) return false;
    if (event.key === "Enter") this.finish();
    else if (event.key === "Escape") this.start(null);
    else return false;
    event.preventDefault();
    return true;
  }

  _near(point, corner, at) {
    const ratio = window.devicePixelRatio || 1;
    return Math.hypot(point[0] - corner[0], point[1] - corner[1]) * at.place.scale < NEAR * ratio;
  }

  _pointer(event, kind, at) {
    if (at === null) return false;
    const point = [at.column, at.row];
    if (kind === "up") {
      if (this.held) {
        this.held = null;
        this.dispatchEvent(new Event("change"));
      }
      return false;
    }
    if (this.held && kind === "move") {
      const { name, corner } = this.held;
      this.keys[name][this.player.frame][corner] = point;
      this.player.draw();
      return true;
    }
    if (kind !== "down" || event.button !== 0) return this.mode !== null && kind === "move";
    if (this.mode !== null) {
      if (this.mode !== "line" && this.open.length > 2 && this._near(point, this.open[0], at)) this.finish();
      else {
        this.open.push(point);
        if (this.mode === "line" && this.open.length === 2) this.finish();
      }
      this.player.draw();
      return true;
    }
    for (const [name, keys] of Object.entries(this.keys)) {
      const polygon = polygonAt(keys, this.player.frame);
      const corner = polygon?.findIndex((vertex) => this._near(point, vertex, at)) ?? -1;
      if (corner >= 0) {
        keys[this.player.frame] = polygon.map((vertex) => [...vertex]); // this frame is a key frame from here on
        this.held = { name, corner };
        return true;
      }
    }
    return false;
  }

  _draw(context) {
    const ratio = ((window.devicePixelRatio || 1) * parseFloat(getComputedStyle(context.canvas).fontSize)) / 14;
    for (const panel of this.player.panels()) {
      const place = this.player.place(panel);
      const to = ([x, y]) => [place.left + x * place.scale, place.top + y * place.scale];
      const path = (points, closed) => {
        context.beginPath();
        points.forEach((point, k) => context[k ? "lineTo" : "moveTo"](...to(point)));
        if (closed) context.closePath();
        context.stroke();
      };
      context.save();
      context.beginPath();
      context.rect(place.x, place.y, place.width, place.height);
      context.clip();
      context.lineWidth = 1.5 * ratio;
      if (this.showSector) {
        context.strokeStyle = COLOURS.sector;
        context.setLineDash([5 * ratio, 5 * ratio]);
        for (const polygon of this.sector) path(polygon, true);
        context.setLineDash([]);
      }
      for (const [name, keys] of Object.entries(this.keys)) {
        const polygon = polygonAt(keys, this.player.frame);
        if (!polygon) continue;
        context.strokeStyle = context.fillStyle = COLOURS[name];
        path(polygon, true);
        const solid = this.player.frame in keys; // corners of key frames are full
        for (const point of polygon) {
          context.beginPath();
          context.arc(...to(point), 3.5 * ratio, 0, 7);
          solid ? context.fill() : context.stroke();
        }
      }
      context.strokeStyle = COLOURS.line;
      if (this.line) path(this.line, false);
      if (this.open?.length) {
        context.strokeStyle = COLOURS[this.mode];
        path(this.open, false);
        for (const point of this.open) {
          context.beginPath();
          context.arc(...to(point), 3 * ratio, 0, 7);
          context.stroke();
        }
      }
      context.restore();
    }
  }
}
