// M-mode, and the scores over time.

function sized(canvas) {
  const dots = window.devicePixelRatio || 1, ratio = (dots * parseFloat(getComputedStyle(canvas).fontSize)) / 14;
  const size = [Math.round(canvas.clientWidth * dots), Math.round(canvas.clientHeight * dots)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  return [canvas.getContext("2d"), ...size, ratio];
}

/** Grey values along a line over all frames, as an image of (points, frames). */
export function mmode(film, what, [[x0, y0], [x1, y1]]) {
  const count = Math.max(2, Math.round(Math.hypot(x1 - x0, y1 - y0)));
  const image = new ImageData(film.frames, count);
  for (let k = 0; k < count; k++) {
    const t = k / (count - 1);
    const column = Math.floor(x0 + t * (x1 - x0)), row = Math.floor(y0 + t * (y1 - y0));
    const inside = column >= 0 && row >= 0 && column < film.width && row < film.height;
    for (let frame = 0; frame < film.frames; frame++) {
      const at = 4 * (k * film.frames + frame);
      const value = inside ? film.grey(what, frame, row * film.width + column) : 0;
      image.data.set([value, value, value, 255], at);
    }
  }
  return image;
}

const strips = new WeakMap(); // film -> what -> {key, canvas}: made anew only for another line or strength
function strip({ film, what }, line) {
  const key = `${line} ${what === "input" ? "" : film.strength}`;
  if (!strips.has(film)) strips.set(film, {});
  const kept = strips.get(film);
  if (kept[what]?.key !== key) {
    const image = mmode(film, what, line);
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    kept[what] = { key, canvas };
  }
  return kept[what].canvas;
}

/** M-mode of what is compared, side by side, with the present moment marked. */
export function drawLines(canvas, player, line) {
  if (canvas.hidden || line === null) return;
  const [context, width, height, ratio] = sized(canvas);
  const chosen = player.view === "all" ? player.sources : player.pair.map((k) => player.sources[k]);
  const sources = [...new Set(chosen)];
  const size = Math.round(14 * ratio);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.font = `${size}px system-ui, sans-serif`;
  sources.forEach((source, k) => {
    const [left, wide] = [(k * width) / sources.length, width / sources.length - 4 * ratio];
    context.drawImage(strip(source, line), left, 0, wide, height);
    context.fillStyle = "#f0e442";
    context.fillRect(left + ((player.frame + 0.5) / source.film.frames) * wide, 0, ratio, height);
    context.lineWidth = size / 4;
    const room = wide - 1.2 * size;
    const label = k ? source.name : `${source.name}, ${(source.film.frames / source.film.fps).toFixed(2)} s`;
    context.strokeText(label, left + 0.6 * size, 1.3 * size, room);
    context.fillStyle = "#e6e6e6";
    context.fillText(label, left + 0.6 * size, 1.3 * size, room);
  });
}

/**
 * Scores over time. `lines` are {frames, color, dash} of the input and of each result, where `frames` are scores by name
 * and frame number; `titles` name the scores. gCNR and KS are drawn from 0 to 1, others as far as they go.
 */
export function drawCurves(canvas, lines, titles, frames) {
  const known = ({ frames: of }, name) => Object.values(of[name] ?? {}).filter((value) => value !== null);
  const names = Object.keys(lines[0].frames).filter((name) => known(lines[0], name).length);
  canvas.style.height = `${4 * names.length}em`;
  const [context, width, height, ratio] = sized(canvas);
  const size = Math.round(12 * ratio);
  context.clearRect(0, 0, width, height);
  context.font = `${size}px system-ui, sans-serif`;
  names.forEach((name, k) => {
    const [top, tall] = [(k * height) / names.length + 1.4 * size, height / names.length - 2 * size];
    context.fillStyle = "#e6e6e6";
    const all = lines.flatMap((line) => known(line, name));
    const [low, high] = /^(gcnr|ks)/.test(name) ? [0, 1] : [Math.min(0, ...all), Math.max(...all, 1e-3)];
    const say = (value) => String(Number(value.toPrecision(2)));
    context.fillText(`${titles[name]} over time, ${say(low)} to ${say(high)}`, 2 * ratio, top - 0.4 * size);
    context.lineWidth = ratio;
    context.strokeStyle = "#33383d";
    context.strokeRect(0, top, width, tall);
    for (const line of lines) {
      const values = line.frames[name];
      if (!values) continue;
      context.strokeStyle = line.color;
      context.lineWidth = 1.5 * ratio;
      context.setLineDash(line.dash.map((length) => 1.5 * length * ratio));
      context.beginPath();
      let pen = false;
      for (let frame = 1; frame <= frames; frame++) {
        const value = values[frame];
        if (value === null || value === undefined) { pen = false; continue; }
        const at = [((frame - 0.5) / frames) * width, top + (tall * (high - value)) / (high - low)];
        pen ? context.lineTo(...at) : context.moveTo(...at);
        pen = true;
      }
      context.stroke();
      context.setLineDash([]);
    }
  });
}
