// M-mode, and the scores over time.

const INPUT = "#a5adb5", RESULT = "#d55e00";

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const size = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
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

const strips = new Map(); // what -> {key, canvas}: made anew only for another line, film or strength
function strip(film, what, line) {
  const key = `${line} ${what === "input" ? "" : film.strength}`;
  const kept = strips.get(what);
  if (kept?.key === key && kept.film === film) return kept.canvas;
  const image = mmode(film, what, line);
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  strips.set(what, { key, film, canvas });
  return canvas;
}

/** M-mode of input and result side by side, with the present moment marked. */
export function drawLines(canvas, player, line) {
  if (canvas.hidden || line === null) return;
  const [context, width, height, ratio] = sized(canvas);
  const whats = player.film.hasResult ? ["input", "result"] : ["input"];
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  whats.forEach((what, k) => {
    const [left, wide] = [(k * width) / whats.length, width / whats.length - 4 * ratio];
    context.drawImage(strip(player.film, what, line), left, 0, wide, height);
    context.fillStyle = "#f0e442";
    context.fillRect(left + ((player.frame + 0.5) / player.film.frames) * wide, 0, ratio, height);
    context.fillStyle = "#e6e6e6";
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.fillText(what, left + 6 * ratio, 16 * ratio);
  });
}

/** gCNR over time, of input (grey, dashed) and result (orange). */
export function drawCurves(canvas, found, frames) {
  const [context, width, height, ratio] = sized(canvas);
  context.clearRect(0, 0, width, height);
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  const names = ["gcnr", "ks_a"].filter((name) => Object.keys(found.input.frames[name] ?? {}).length);
  names.forEach((name, k) => {
    const [top, tall] = [(k * height) / names.length + 14 * ratio, height / names.length - 20 * ratio];
    context.fillStyle = "#e6e6e6";
    context.fillText(`${found.input.titles[name]} over time, 0 to 1`, 2 * ratio, top - 3 * ratio);
    context.strokeStyle = "#33383d";
    context.strokeRect(0, top, width, tall);
    for (const [which, colour, dash] of [["input", INPUT, [4, 3]], ["result", RESULT, []]]) {
      const values = found[which]?.frames[name];
      if (!values) continue;
      context.strokeStyle = colour;
      context.lineWidth = 1.5 * ratio;
      context.setLineDash(dash.map((length) => length * ratio));
      context.beginPath();
      let pen = false;
      for (let frame = 1; frame <= frames; frame++) {
        const value = values[frame];
        if (value === null || value === undefined) { pen = false; continue; }
        const at = [((frame - 0.5) / frames) * width, top + tall * (1 - value)];
        pen ? context.lineTo(...at) : context.moveTo(...at);
        pen = true;
      }
      context.stroke();
      context.setLineDash([]);
    }
  });
}
