// What is drawn on the picture, with mouse or keys: septum and ventricle with key frames, the sector, the M-mode line.

const COLOURS = { septum: "#f0e442", ventricle: "#56b4e9", sector: "#e69f00", line: "#cc79a7" };
const NEAR = 10; // CSS pixels at which a corner is caught
const STEP = 2, LEAP = 20; // CSS pixels that an arrow key moves the cross-hair, and with shift

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
    this.mode = null; // septum, ventricle, sector, line, or edit: corners are moved with keys
    this.open = null; // corners of the polygon that is being drawn
    this.cross = null; // the cross-hair, which mouse and arrow keys move
    this.aimed = false; // by keys, since the last corner was set
    this.held = null; // the corner that is moved
    player.pointer = (event, kind, at) => this._pointer(event, kind, at);
    player.addEventListener("drawn", (event) => this._draw(event.detail));
    player.addEventListener("frame", () => { if (this.mode === "edit") this.start(null); });
    for (const event of ["change", "mode"]) this.addEventListener(event, () => this._keep());
  }

  start(mode) {
    const { player } = this, { film: { width, height }, pan } = player;
    [this.mode, this.aimed, this.held] = [mode, false, null];
    this.open = mode === null ? null : [];
    this.cross = mode === null ? null : [width / 2 + pan[0], height / 2 + pan[1]]; // the middle of what is seen
    if (mode === "line") this.line = null;
    if (mode !== null) {
      player.play(false);
      player.canvas.focus();
    }
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
    if (mode === null || open.length < (mode === "line" ? 2 : 3)) return;
    this.start(null);
    if (mode === "line") this.line = open.slice(0, 2);
    else if (mode === "sector") this.dispatchEvent(new CustomEvent("sector", { detail: open }));
    else this.setKey(mode, open);
    this.dispatchEvent(new Event("mode"));
  }

  /** Draw and move corners with keys; returns true if the event was one of these. */
  key(event) {
    const { key, target, shiftKey } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (key !== "Escape" && target !== this.player.canvas && target !== document.body) return false; // of a button or box
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (this.mode === null) {
      if (key !== "e" || !this._choose(0)) return false;
    } else if (way) {
      const stride = ((shiftKey ? LEAP : STEP) * (window.devicePixelRatio || 1)) / this._scale();
      this._move(stride * way[0], stride * way[1]);
    } else if (key === "Escape" || (key === "Enter" && this.mode === "edit")) this.start(null);
    else if (this.mode === "edit") {
      if (key !== "Tab") return false;
      const at = this._corners().findIndex(({ name, corner }) => name === this.held.name && corner === this.held.corner);
      if (!this._choose(at + (shiftKey ? -1 : 1))) { // behind the last one, the key goes on to what follows the picture
        this.start(null);
        return false;
      }
    } else if (key === "Enter" && !this.aimed && this.open.length) this.finish();
    else if (key === "Enter" || key === " ") {
      if (!event.repeat) this._add(this.cross, this._scale());
    } else if (key === "Backspace") this.open.pop();
    else return false;
    event.preventDefault();
    this.player.draw();
    return true;
  }

  /** Canvas pixels per frame pixel. */
  _scale() {
    return this.player.place(this.player.panels()[0]).scale;
  }

  /** All corners in this frame: {name, corner, at}. */
  _corners() {
    return Object.entries(this.keys).flatMap(([name, keys]) =>
      (polygonAt(keys, this.player.frame) ?? []).map((at, corner) => ({ name, corner, at })));
  }

  /** Take corner `k` to move it with keys; false if there is none. */
  _choose(k) {
    const chosen = this._corners()[k];
    if (!chosen) return false;
    if (this.mode === null) this.start("edit");
    [this.held, this.cross] = [chosen, [...chosen.at]];
    return true;
  }

  /** Move the cross-hair, and with it the corner that is edited; a part of the picture that is not seen comes into view. */
  _move(right, down) {
    const { film: { width, height }, pan, zoom } = this.player;
    const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
    this.cross = [clamp(this.cross[0] + right, 0, width), clamp(this.cross[1] + down, 0, height)];
    this.player.pan = [width / 2, height / 2].map((half, k) => {
      const away = this.cross[k] - half;
      return clamp(pan[k], away - half / zoom, away + half / zoom);
    });
    this.aimed = true;
    if (this.mode !== "edit") return;
    const { name, corner } = this.held;
    this._own(name)[corner] = [...this.cross];
    this.dispatchEvent(new Event("change"));
  }

  /** The polygon of a region in this frame, which is a key frame from here on. */
  _own(name) {
    const keys = this.keys[name], { frame } = this.player;
    keys[frame] ??= polygonAt(keys, frame).map((vertex) => [...vertex]);
    return keys[frame];
  }

  /** Set a corner, or close the polygon at its first one. */
  _add(point, scale) {
    this.aimed = false;
    if (this.mode !== "line" && this.open.length > 2 && this._near(point, this.open[0], scale)) return this.finish();
    this.open.push([...point]);
    if (this.mode === "line" && this.open.length === 2) this.finish();
  }

  _near(point, corner, scale) {
    const ratio = window.devicePixelRatio || 1;
    return Math.hypot(point[0] - corner[0], point[1] - corner[1]) * scale < NEAR * ratio;
  }

  _pointer(event, kind, at) {
    if (at === null) return false;
    const point = [at.column, at.row], { scale } = at.place;
    if (this.mode === "edit") {
      if (kind !== "down") return false;
      this.start(null);
    }
    if (kind === "up") {
      if (this.held) {
        this.held = null;
        this.dispatchEvent(new Event("change"));
      }
      return false;
    }
    if (this.held && kind === "move") {
      const { name, corner } = this.held;
      this._own(name)[corner] = point;
      this.player.draw();
      return true;
    }
    if (this.mode !== null) {
      [this.cross, this.aimed] = [point, false];
      this.player.draw();
    }
    if (kind !== "down" || event.button !== 0) return this.mode !== null && kind === "move";
    if (this.mode !== null) {
      this._add(point, scale);
      return true;
    }
    this.held = this._corners().find((each) => this._near(point, each.at, scale)) ?? null;
    if (this.held) this._own(this.held.name);
    return this.held !== null;
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
      if (this.mode !== null) {
        context.strokeStyle = COLOURS[this.held?.name ?? this.mode];
        if (this.open.length) path([...this.open, this.cross], false);
        for (const point of this.open) {
          context.beginPath();
          context.arc(...to(point), 3 * ratio, 0, 7);
          context.stroke();
        }
        this._crossHair(context, ...to(this.cross), ratio);
      }
      context.restore();
    }
  }

  _crossHair(context, x, y, ratio) {
    const color = context.strokeStyle, [gap, end] = [3 * ratio, 12 * ratio];
    context.beginPath();
    for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + gap * right, y + gap * down);
      context.lineTo(x + end * right, y + end * down);
    }
    for (const [width, style] of [[4.5, "#000"], [2, color]]) { // seen on bright echoes, too
      [context.lineWidth, context.strokeStyle] = [width * ratio, style];
      context.stroke();
    }
  }
}
