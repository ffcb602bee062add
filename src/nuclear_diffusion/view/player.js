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
};

/** Fraction of the intensity that is kept, for every 16-bit haze fraction. */
export function keptTable(strength, width) {
  const spare = (1 - strength) ** 2;
  return Float32Array.from({ length: SHARE_MAX + 1 }, (_, k) => {
    const h = (k / SHARE_MAX - spare) / width;
    return 1 - Math.min(Math.max(h, 0), 1);
  });
}

/** Display value of every grey level for a brightness in [-1, 1] and a contrast in [0, 4]. */
export function displayTable(brightness, contrast) {
  return Uint8ClampedArray.from({ length: 256 }, (_, v) => 127.5 + contrast * (v - 127.5) + 255 * brightness);
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

  /** Paint one frame of `what` into RGBA pixels, through a display table. */
  paint(what, frame, table, rgba) {
    const { pixels, channels, input, share, kept, signal } = this;
    const start = frame * pixels;
    if (what === "background" || what === "deviation") {
      const plane = this[what];
      for (let i = 0; i < pixels; i++) {
        const v = table[plane[start + i]];
        rgba[4 * i] = v;
        rgba[4 * i + 1] = what === "deviation" ? v >> 1 : v; // uncertainty in orange
        rgba[4 * i + 2] = what === "deviation" ? 0 : v;
        rgba[4 * i + 3] = 255;
      }
      return;
    }
    const haze = what === "haze";
    const untouched = what === "input" || !this.hasResult;
    for (let i = 0; i < pixels; i++) {
      const factor = untouched || share === null ? 1 : kept[share[start + i]];
      const from = (start + i) * channels;
      for (let c = 0; c < 3; c++) {
        const at = channels === 1 ? from : from + c;
        if (channels === 1 && c > 0) {
          rgba[4 * i + c] = rgba[4 * i];
          continue;
        }
        const seen = input[at];
        let v = seen;
        if (!untouched) v = share !== null ? (seen * factor + 0.5) | 0 : signal[at];
        if (haze) v = Math.max(seen - v, 0);
        rgba[4 * i + c] = table[v];
      }
      rgba[4 * i + 3] = 255;
    }
  }
}

/** Draws a film on a canvas and runs its clock. Everything that may change is a property; call `draw` after a change. */
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
    this.setFilm(film);
    this._listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  setFilm(film) {
    this.film = film;
    this._layers = {};
    this.frame = Math.min(this.frame, film.frames - 1);
    this.draw();
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

  _tick(now) {
    if (!this.playing) return;
    this._due += ((now - this._last) / 1000) * this.film.fps * this.speed;
    this._last = now;
    const steps = Math.floor(this._due);
    this._due -= steps;
    if (steps > 0) this.step(steps);
    requestAnimationFrame((next) => this._tick(next));
  }

  /** The layer `what` of the present frame, as a canvas of the film's size. */
  layer(what) {
    const { film } = this;
    let layer = this._layers[what];
    if (!layer) {
      const canvas = new OffscreenCanvas(film.width, film.height);
      const context = canvas.getContext("2d");
      layer = this._layers[what] = { canvas, context, image: context.createImageData(film.width, film.height) };
    }
    film.paint(what, this.frame, displayTable(this.brightness, this.contrast), layer.image.data);
    layer.context.putImageData(layer.image, 0, 0);
    return layer.canvas;
  }

  /** The panels of the view: [what, left edge, width] in fractions of the canvas. */
  panels() {
    if (!this.film.hasResult) return [["input", 0, 1]];
    switch (this.view) {
      case "side":
        return [["input", 0, 0.5], ["result", 0.5, 0.5]];
      case "flicker":
        return [[this.flipped ? "input" : "result", 0, 1]];
      case "wipe":
        return [["result", 0, 1]];
      default:
        return [[this.view, 0, 1]];
    }
  }

  /** Scale and offset (canvas pixels per frame pixel) of a panel. */
  place([, left, width]) {
    const panel = { x: left * this.canvas.width, width: width * this.canvas.width, height: this.canvas.height };
    const fit = Math.min(panel.width / this.film.width, panel.height / this.film.height);
    const scale = fit * this.zoom;
    return {
      ...panel,
      scale,
      left: panel.x + panel.width / 2 - (this.film.width / 2 + this.pan[0]) * scale,
      top: panel.height / 2 - (this.film.height / 2 + this.pan[1]) * scale,
    };
  }

  /** Canvas coordinates to [column, row] of the film, and the panel under them. */
  at(x, y) {
    for (const panel of this.panels()) {
      const place = this.place(panel);
      if (x >= place.x && x <= place.x + place.width)
        return { what: panel[0], place, column: (x - place.left) / place.scale, row: (y - place.top) / place.scale };
    }
    return null;
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const size = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, ...size);
    for (const panel of this.panels()) {
      const place = this.place(panel);
      this._image(context, panel[0], place, place.x, place.width);
      const wiped = this.view === "wipe" && this.film.hasResult;
      this._label(context, panel[0], place, ratio, wiped);
    }
    if (this.view === "wipe" && this.film.hasResult) this._wipe(context, ratio);
    this.dispatchEvent(new CustomEvent("drawn", { detail: context }));
  }

  _image(context, what, place, x, width) {
    context.save();
    context.beginPath();
    context.rect(x, 0, width, place.height);
    context.clip();
    context.imageSmoothingEnabled = place.scale < 4; // show the pixels themselves when zoomed in
    const { width: w, height: h } = this.film;
    context.drawImage(this.layer(what), place.left, place.top, w * place.scale, h * place.scale);
    context.restore();
  }

  _label(context, what, place, ratio, right = false) {
    context.font = `${13 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "top";
    context.fillStyle = "#e6e6e6";
    context.shadowColor = "#000";
    context.shadowBlur = 4 * ratio;
    const names = { input: "input", result: "result", haze: "haze removed" };
    context.textAlign = right ? "right" : "left";
    const x = right ? place.x + place.width - 8 * ratio : place.x + 8 * ratio;
    context.fillText(names[what] ?? VIEWS[what].toLowerCase(), x, 8 * ratio);
    context.textAlign = "left";
    context.shadowBlur = 0;
  }

  _wipe(context, ratio) {
    const place = this.place(["input", 0, 1]);
    const x = this.wipe * this.canvas.width;
    this._image(context, "input", place, 0, x);
    this._label(context, "input", place, ratio);
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
      this.zoom = Math.min(Math.max(this.zoom * 1.0015 ** -event.deltaY, 1), 32);
      const after = this.at(...point(event));
      if (before && after) this.pan = [this.pan[0] + before.column - after.column, this.pan[1] + before.row - after.row];
      if (this.zoom === 1) this.pan = [0, 0];
      this.draw();
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
  const views = player.film.views();
  switch (event.key) {
    case " ":
      if (target.tagName === "BUTTON") return false;
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
    case "0":
      player.zoom = 1;
      player.pan = [0, 0];
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
