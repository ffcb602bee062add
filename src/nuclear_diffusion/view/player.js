// The player of the app, of `nd.show` and of the report: input and result in step, the strength as a live knob.
//
// The haze fraction of every pixel is in the browser, so a new strength is a multiplication (restore/render.py):
//   result = (1 - clip((share - spare) / width, 0, 1)) * input,   spare = (1 - strength)^2
// Pixels are made on the CPU with one table look-up each, which is exact and needs no graphics card.

const SHARE_MAX = 65535;

/** What the views show. */
export const VIEWS = {
  side: "Side by side",
  wipe: "Wipe",
  flicker: "Flicker A/B",
  result: "Result",
  haze: "Haze removed",
  background: "Background",
  deviation: "Uncertainty",
  all: "All results",
};

const LABELS = { deviation: "uncertainty in orange, full at a standard deviation of a quarter of white" };

/** Fraction of the intensity that is kept, for every 16-bit haze fraction. */
export function keptTable(strength, width) {
  const spare = (1 - strength) ** 2;
  const table = new Float32Array(SHARE_MAX + 1);
  for (let k = 0; k <= SHARE_MAX; k++) table[k] = 1 - Math.min(Math.max((k / SHARE_MAX - spare) / width, 0), 1);
  return table;
}

/** Display value of every grey level for a brightness in [-1, 1] and a contrast in [0, 4]. */
export function displayTable(brightness, contrast) {
  const table = new Uint8ClampedArray(256);
  for (let v = 0; v < 256; v++) table[v] = 127.5 + contrast * (v - 127.5) + 255 * brightness;
  return table;
}

/** A clip and its results, as arrays (frames, height, width[, 3]). */
export class Film {
  /**
   * @param {{frames:number,height:number,width:number,fps:number,channels:number,width_of_knob:number}} info
   * @param {Uint8Array} input 8-bit intensities
   */
  constructor(info, input) {
    Object.assign(this, info);
    this.input = input;
    this.pixels = this.height * this.width;
    this.share = null; // Uint16Array, haze fraction
    this.signal = null; // Uint8Array, result of a method without haze fraction
    this.background = null; // Uint8Array
    this.deviation = null; // Uint8Array, four standard deviations
    this.setStrength(0.5);
  }

  setStrength(strength) {
    this.strength = strength;
    this.kept = keptTable(strength, this.width_of_knob);
  }

  get hasResult() {
    return this.share !== null || this.signal !== null;
  }

  /** The views that this film has data for. */
  views() {
    return Object.keys(VIEWS).filter((name) => {
      if (name === "all") return false;
      if (name === "background") return this.background !== null;
      if (name === "deviation") return this.deviation !== null;
      return this.hasResult;
    });
  }

  /** Value of one channel of one pixel, in [0, 255]: `what` is input, result, haze, background or deviation. */
  value(what, frame, pixel, channel = 0) {
    const at = (frame * this.pixels + pixel) * this.channels + channel;
    const seen = this.input[at];
    if (what === "input") return seen;
    if (what === "background" || what === "deviation") {
      const plane = this[what];
      return plane === null ? 0 : plane[frame * this.pixels + pixel];
    }
    let kept = seen;
    if (this.share !== null) kept = (seen * this.kept[this.share[frame * this.pixels + pixel]] + 0.5) | 0;
    else if (this.signal !== null) kept = this.signal[at];
    return what === "haze" ? Math.max(seen - kept, 0) : kept;
  }

  /** Mean of the channels, for M-mode. */
  grey(what, frame, pixel) {
    let sum = 0;
    for (let c = 0; c < this.channels; c++) sum += this.value(what, frame, pixel, c);
    return sum / this.channels;
  }

  /** Paint one frame of `what` through a display table; `rgba` holds a pixel in 32 bits, red in the lowest. */
  paint(what, frame, table, rgba) {
    const { pixels, channels, input, share, kept } = this;
    const start = frame * pixels;
    if (what === "background") {
      for (let i = 0; i < pixels; i++) rgba[i] = 0xff000000 | (table[this.background[start + i]] * 0x10101);
      return;
    }
    if (what === "deviation") { // orange over the result
      this.paint("result", frame, table, rgba);
      for (let i = 0; i < pixels; i++) {
        const part = this.deviation[start + i] / 255;
        const mixed = (shift, color) => Math.round(((rgba[i] >> shift) & 255) * (1 - part) + color * part) << shift;
        rgba[i] = 0xff000000 | mixed(16, 0) | mixed(8, 159) | mixed(0, 230);
      }
      return;
    }
    const haze = what === "haze";
    if (what === "input" || !this.hasResult || share === null) {
      const from = what === "input" || !this.hasResult ? input : this.signal;
      const less = haze ? input : null;
      for (let i = 0, at = start * channels; i < pixels; i++, at += channels) {
        const green = channels === 3 ? at + 1 : at, blue = channels === 3 ? at + 2 : at;
        const r = less === null ? from[at] : Math.max(less[at] - from[at], 0);
        const g = less === null ? from[green] : Math.max(less[green] - from[green], 0);
        const b = less === null ? from[blue] : Math.max(less[blue] - from[blue], 0);
        rgba[i] = 0xff000000 | (table[b] << 16) | (table[g] << 8) | table[r];
      }
    } else if (channels === 1) {
      for (let i = 0; i < pixels; i++) {
        const seen = input[start + i];
        const v = (seen * kept[share[start + i]] + 0.5) | 0;
        rgba[i] = 0xff000000 | (table[haze ? Math.max(seen - v, 0) : v] * 0x10101);
      }
    } else {
      for (let i = 0, at = 3 * start; i < pixels; i++, at += 3) {
        const factor = kept[share[start + i]];
        let r = (input[at] * factor + 0.5) | 0, g = (input[at + 1] * factor + 0.5) | 0, b = (input[at + 2] * factor + 0.5) | 0;
        if (haze) {
          r = Math.max(input[at] - r, 0);
          g = Math.max(input[at + 1] - g, 0);
          b = Math.max(input[at + 2] - b, 0);
        }
        rgba[i] = 0xff000000 | (table[b] << 16) | (table[g] << 8) | table[r];
      }
    }
  }
}

/**
 * Draws films of one clip on a canvas, in step, and runs their clock. Everything that may change is a property; call
 * `draw` after a change: the picture follows at the next turn of the screen, once for all changes.
 *
 * `sources` are what can be compared: {name, film, what}, the input first. `pair` are the two of them, A and B, that
 * stand side by side; `film` is that of B. The event "drawn" comes after each picture, with the canvas's context.
 */
export class Player extends EventTarget {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas, film) {
    super();
    this.canvas = canvas;
    this.view = film.hasResult ? "side" : "input";
    this.frame = 0;
    this.playing = false;
    this.speed = 1;
    this.loop = null; // [first, last] frame
    this.zoom = 1;
    this.pan = [0, 0]; // in frame pixels
    this.wipe = 0.5;
    this.flipped = false; // flicker shows the input
    this.brightness = 0;
    this.contrast = 1;
    this.strength = null; // of all films that have a knob; null until there is one
    this.setFilm(film);
    this._listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Show one film: its input and its result. */
  setFilm(film) {
    const input = { name: "input", film, what: "input" };
    this.setSources(film.hasResult ? [input, { name: "result", film, what: "result" }] : [input]);
  }

  /**
   * Show results of one clip in step; `a` and `b` are the two that stand side by side. All are shown at the strength of
   * the knob, which begins at that of the first film that has one.
   */
  setSources(sources, a = 0, b = sources.length - 1) {
    this.sources = sources;
    this.pair = [a, b];
    this.film = sources[b].film;
    this._layers = new Map();
    this.strength ??= sources.find(({ film }) => film.share !== null)?.film.strength ?? null;
    if (this.strength !== null) this.setStrength(this.strength);
    this.frame = Math.min(this.frame, this.film.frames - 1);
    this.draw();
  }

  /** One strength for all films that have a knob. */
  setStrength(strength) {
    this.strength = strength;
    for (const film of new Set(this.sources.map((source) => source.film)))
      if (film.strength !== strength) film.setStrength(strength);
    this.draw();
  }

  /** The views that there is data for. */
  views() {
    return [...this.film.views(), ...(this.sources.length > 2 ? ["all"] : [])];
  }

  /** First and last frame that are played. */
  get range() {
    return this.loop ?? [0, this.film.frames - 1];
  }

  play(on = !this.playing) {
    if (on && !this.playing) {
      this._last = performance.now();
      this._due = 0;
      this.playing = true;
      requestAnimationFrame((now) => this._tick(now));
    } else this.playing = on;
    this.dispatchEvent(new Event("state"));
  }

  step(by) {
    const [first, last] = this.range;
    const count = last - first + 1;
    this.seek(first + ((((this.frame - first + by) % count) + count) % count));
  }

  seek(frame) {
    this.frame = Math.min(Math.max(Math.round(frame), 0), this.film.frames - 1);
    this.draw();
    this.dispatchEvent(new Event("frame"));
  }

  magnify(by) {
    this.zoom = Math.min(Math.max(this.zoom * by, 1), 32);
    if (this.zoom === 1) this.pan = [0, 0];
    this.draw();
  }

  /** Move the wipe line in its view, else the picture: a twentieth of what is seen, right and down. */
  move(right, down) {
    const { width, height } = this.film;
    if (this.view === "wipe" && right) this.wipe = Math.min(Math.max(this.wipe + right / 20, 0), 1);
    else this.pan = [this.pan[0] - (right * width) / this.zoom / 20, this.pan[1] - (down * height) / this.zoom / 20];
    this.draw();
  }

  _tick(now) {
    if (!this.playing) return;
    this._due += ((now - this._last) / 1000) * this.film.fps * this.speed;
    this._last = now;
    const steps = Math.floor(this._due);
    this._due -= steps;
    if (steps > 0) this.step(steps);
    requestAnimationFrame((next) => this._tick(next));
  }

  /** The layer `what` of the present frame of a film, as a canvas of the film's size. */
  layer(what, film = this.film) {
    if (!this._layers.has(film)) this._layers.set(film, {});
    const layers = this._layers.get(film);
    let layer = layers[what];
    if (!layer) {
      const canvas = new OffscreenCanvas(film.width, film.height);
      const context = canvas.getContext("2d");
      const image = context.createImageData(film.width, film.height);
      layer = layers[what] = { canvas, context, image, rgba: new Uint32Array(image.data.buffer), key: "" };
    }
    const key = [this.frame, this.brightness, this.contrast, what === "input" ? "" : film.strength].join(" ");
    if (layer.key !== key) {
      film.paint(what, this.frame, displayTable(this.brightness, this.contrast), layer.rgba);
      layer.context.putImageData(layer.image, 0, 0);
      layer.key = key;
    }
    return layer.canvas;
  }

  /** The panels of the view: {name, film, what} and their place in fractions of the canvas. */
  panels() {
    const [a, b] = this.pair.map((k) => this.sources[k]);
    const full = { x: 0, y: 0, width: 1, height: 1 };
    if (!this.film.hasResult) return [{ ...a, ...full }];
    switch (this.view) {
      case "side":
        return [{ ...a, ...full, width: 0.5 }, { ...b, ...full, x: 0.5, width: 0.5 }];
      case "all":
        return this._tiles();
      case "flicker":
        return [{ ...(this.flipped ? a : b), ...full }];
      case "wipe":
      case "result":
        return [{ ...b, ...full }];
      default:
        return [{ name: LABELS[this.view] ?? VIEWS[this.view]?.toLowerCase() ?? this.view, film: this.film, what: this.view, ...full }];
    }
  }

  /** All sources in rows and columns, as large as they can be. */
  _tiles() {
    const count = this.sources.length;
    const scale = (columns) => Math.min(
      this.canvas.width / columns / this.film.width,
      this.canvas.height / Math.ceil(count / columns) / this.film.height,
    );
    let columns = 1;
    for (let more = 2; more <= count; more++) if (scale(more) > scale(columns)) columns = more;
    const rows = Math.ceil(count / columns);
    return this.sources.map((source, k) => ({
      ...source,
      x: (k % columns) / columns,
      y: Math.floor(k / columns) / rows,
      width: 1 / columns,
      height: 1 / rows,
    }));
  }

  /** Scale and offset (canvas pixels per frame pixel) of a panel. */
  place(panel) {
    const { width: wide, height: high } = this.canvas;
    const [x, y, width, height] = [panel.x * wide, panel.y * high, panel.width * wide, panel.height * high];
    const scale = Math.min(width / this.film.width, height / this.film.height) * this.zoom;
    return {
      x,
      y,
      width,
      height,
      scale,
      left: x + width / 2 - (this.film.width / 2 + this.pan[0]) * scale,
      top: y + height / 2 - (this.film.height / 2 + this.pan[1]) * scale,
    };
  }

  /** Canvas coordinates to [column, row] of the film, and the panel under them. */
  at(x, y) {
    for (const panel of this.panels()) {
      const place = this.place(panel);
      if (x >= place.x && x <= place.x + place.width && y >= place.y && y <= place.y + place.height)
        return { ...panel, place, column: (x - place.left) / place.scale, row: (y - place.top) / place.scale };
    }
    return null;
  }

  /** Draw at the next turn of the screen. */
  draw() {
    if (this._asked) return;
    this._asked = true;
    requestAnimationFrame(() => {
      this._asked = false;
      this._draw();
    });
  }

  _draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const size = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const context = this.canvas.getContext("2d", { alpha: false });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, ...size);
    const wiped = this.view === "wipe" && this.film.hasResult;
    for (const panel of this.panels()) {
      const place = this.place(panel);
      this._image(context, panel, place);
      this._label(context, panel.name, place, ratio, wiped);
    }
    if (wiped) this._wipe(context, ratio);
    this.dispatchEvent(new CustomEvent("drawn", { detail: context }));
  }

  _image(context, { what, film }, place, width = place.width) {
    context.save();
    context.beginPath();
    context.rect(place.x, place.y, width, place.height);
    context.clip();
    context.imageSmoothingEnabled = place.scale < 4; // show the pixels themselves when zoomed in
    const { width: w, height: h } = film;
    context.drawImage(this.layer(what, film), place.left, place.top, w * place.scale, h * place.scale);
    context.restore();
  }

  _label(context, name, place, ratio, right = false) {
    const size = Math.round(parseFloat(getComputedStyle(this.canvas).fontSize) * ratio);
    context.font = `${size}px system-ui, sans-serif`;
    context.textBaseline = "top";
    context.textAlign = right ? "right" : "left";
    const x = right ? place.x + place.width - 0.6 * size : place.x + 0.6 * size;
    const room = place.width * (this.view === "wipe" ? 0.5 : 1) - 1.2 * size;
    const lines = [""];
    for (const word of name.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (lines.at(-1) && context.measureText(longer).width > room) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    context.lineWidth = size / 4;
    context.strokeStyle = "#000";
    context.fillStyle = "#e6e6e6";
    lines.forEach((line, k) => {
      const y = place.y + (0.6 + 1.25 * k) * size;
      context.strokeText(line, x, y, room); // readable on bright echoes
      context.fillText(line, x, y, room);
    });
    context.textAlign = "left";
  }

  _wipe(context, ratio) {
    const source = this.sources[this.pair[0]];
    const place = this.place({ x: 0, y: 0, width: 1, height: 1 });
    const x = this.wipe * this.canvas.width;
    this._image(context, source, place, x);
    this._label(context, source.name, place, ratio);
    context.fillStyle = "#f0e442";
    context.fillRect(x - ratio, 0, 2 * ratio, this.canvas.height);
  }

  /** Pointer: wheel zooms at the mouse, drag pans, in the wipe view the mouse moves the line. */
  _listen() {
    const point = (event) => {
      const box = this.canvas.getBoundingClientRect();
      const ratio = this.canvas.width / box.width;
      return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    };
    this.point = point;
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const before = this.at(...point(event));
      this.magnify(1.0015 ** -event.deltaY);
      const after = this.at(...point(event));
      if (before && after && this.zoom > 1) this.pan = [this.pan[0] + before.column - after.column, this.pan[1] + before.row - after.row];
    }, { passive: false });
    let from = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (this.pointer?.(event, "down", this.at(...point(event)))) return;
      from = point(event);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (this.pointer?.(event, "move", this.at(...point(event)))) return;
      const [x, y] = point(event);
      if (from) {
        const { scale } = this.place(this.panels()[0]);
        this.pan = [this.pan[0] - (x - from[0]) / scale, this.pan[1] - (y - from[1]) / scale];
        from = [x, y];
        this.draw();
      } else if (this.view === "wipe") {
        this.wipe = x / this.canvas.width;
        this.draw();
      }
    });
    this.canvas.addEventListener("pointerup", (event) => {
      this.pointer?.(event, "up", this.at(...point(event)));
      from = null;
    });
  }
}

/** Keys of the player: returns true if the event was one of them. */
export function onKey(player, event) {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  if (target.tagName === "INPUT" && target.type !== "range" && target.type !== "checkbox") return false;
  if (target.tagName === "SELECT" || target.tagName === "TEXTAREA") return false;
  const onKnob = target.tagName === "INPUT" && target.type === "range";
  const views = player.views();
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.shiftKey && way && !onKnob) {
    player.move(...way);
    event.preventDefault();
    return true;
  }
  switch (event.key) {
    case " ":
      if (target.tagName === "BUTTON" || target.tagName === "SUMMARY") return false;
      player.play();
      break;
    case "ArrowLeft":
    case "ArrowRight":
      if (onKnob) return false;
      player.play(false);
      player.step(event.key === "ArrowRight" ? 1 : -1);
      break;
    case "a":
    case "b":
      player.flipped = event.key === "a";
      if (views.includes("flicker")) player.view = "flicker";
      break;
    case "[":
      player.loop = [player.frame, Math.max(player.range[1], player.frame)];
      break;
    case "]":
      player.loop = [Math.min(player.range[0], player.frame), player.frame];
      break;
    case "\\":
      player.loop = null;
      break;
    case "+":
    case "=":
    case "-":
      player.magnify(event.key === "-" ? 0.8 : 1.25);
      break;
    case "0":
      player.magnify(0);
      break;
    default: {
      const chosen = views[Number(event.key) - 1];
      if (!chosen) return false;
      player.view = chosen;
    }
  }
  event.preventDefault();
  player.draw();
  player.dispatchEvent(new Event("state"));
  return true;
}
