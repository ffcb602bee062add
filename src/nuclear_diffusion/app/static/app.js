import { Film, Player, VIEWS, onKey } from "/static/player.js";
import { Outlines } from "/static/regions.js";
import { drawCurves, drawLines } from "/static/plots.js";

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") ?? "";

/** Ask the server; errors become the sentence that the server gives. */
async function ask(path, { method = "GET", body, raw = false } = {}) {
  const headers = { "x-token": token };
  let reply;
  try {
    reply = await fetch(path, { method, headers, body: body instanceof Blob || body === undefined ? body : JSON.stringify(body) });
  } catch {
    throw new Error("The app does not answer: it was stopped. Start it again.");
  }
  if (!reply.ok) {
    const text = await reply.text();
    let sentence = text;
    try { sentence = JSON.parse(text).error ?? text; } catch { /* plain text */ }
    throw new Error(sentence);
  }
  return raw ? reply : reply.json();
}
const bytes = async (path) => (await ask(path, { raw: true })).arrayBuffer();

function complain(error) {
  $("error").textContent = error.message;
  $("error").hidden = false;
}
$("error").onclick = () => { $("error").hidden = true; };
/** Run a handler; what it throws is shown. */
const safely = (action) => async (...args) => { try { return await action(...args); } catch (error) { complain(error); } };

const state = { clips: {}, runs: {}, methods: {}, kinds: {}, folders: [], clip: null, run: null };
const films = new Map(); // by clip, or by clip and run
let player = null;
let outlines = null;

// ---------------------------------------------------------------------------------------------- clips

async function load() {
  Object.assign(state, await ask("/api/state"));
  for (const [name, about] of Object.entries(state.methods)) $("method").add(new Option(name, name, name === "nuclear", name === "nuclear"));
  for (const [kind, words] of Object.entries(state.kinds)) $("kind").add(new Option(words, kind));
  $("browse").hidden = state.folders.length === 0;
  $("sheet-open").hidden = state.folders.length === 0;
  showMethod();
  listClips();
  const wanted = sessionStorage.getItem("clip");
  const first = wanted in state.clips ? wanted : Object.keys(state.clips)[0];
  if (first) await choose(first);
}

function listClips() {
  $("clips").replaceChildren(...Object.entries(state.clips).map(([key, clip]) => {
    const item = document.createElement("li");
    item.append(button(clip.name, () => choose(key), key === state.clip), button("×", () => close(key), false, `Close ${clip.name}`));
    return item;
  }));
}

function button(text, action, pressed = false, label = "") {
  const made = document.createElement("button");
  made.textContent = text;
  made.setAttribute("aria-pressed", pressed);
  if (label) made.setAttribute("aria-label", label);
  made.onclick = safely(action);
  return made;
}

async function upload(file) {
  $("drop").textContent = `Reading ${file.name} …`;
  try {
    await opened(await ask(`/api/clips?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file }));
  } finally {
    $("drop").textContent = "Drop a clip here, or click to choose";
  }
}

async function opened({ key, runs, ...clip }) {
  state.clips[key] = clip;
  Object.assign(state.runs, runs);
  await choose(key);
}

async function close(key) {
  await ask(`/api/clips/${key}`, { method: "DELETE" });
  delete state.clips[key];
  for (const [name, run] of Object.entries(state.runs)) if (run.clip === key) delete state.runs[name];
  for (const name of [...films.keys()]) if (name.startsWith(key)) films.delete(name);
  if (state.clip === key) location.reload();
  else listClips();
}

async function choose(key) {
  state.clip = key;
  sessionStorage.setItem("clip", key);
  const done = runsOf(key).filter(([, run]) => run.state === "done");
  listClips();
  tellFacts();
  outlines?.clear();
  await choose_run(done.length ? done.at(-1)[0] : null);
}

const runsOf = (clip) => Object.entries(state.runs).filter(([, run]) => run.clip === clip);

async function film(clip, run) {
  const name = run ? `${clip} ${run}` : clip;
  if (films.has(name)) return films.get(name);
  const about = state.clips[clip];
  const input = films.get(clip)?.input ?? new Uint8Array(await bytes(`/api/clips/${clip}/planes/input`));
  const made = new Film({ ...about }, input);
  if (run) {
    for (const plane of state.runs[run].planes) {
      const raw = await bytes(`/api/runs/${run}/planes/${plane}`);
      made[plane] = plane === "share" ? new Uint16Array(raw) : new Uint8Array(raw);
    }
    made.setStrength(state.runs[run].method.strength ?? 0.5);
  }
  films.set(name, made);
  return made;
}

async function choose_run(run) {
  state.run = run;
  const shown = await film(state.clip, run);
  if (player === null) {
    player = new Player($("screen"), shown);
    outlines = new Outlines(player, state);
    listen();
    window.player = player;
    window.outlines = outlines;
  } else player.setFilm(shown);
  if (!shown.views().includes(player.view)) player.view = shown.views()[0] ?? "side";
  outlines.sector = state.clips[state.clip].sector;
  $("empty").hidden = true;
  for (const id of ["understood", "method-panel", "look", "regions"]) $(id).hidden = false;
  $("saving").hidden = run === null;
  $("frame").max = shown.frames - 1;
  $("strength").value = shown.strength;
  $("knob").hidden = shown.share === null;
  $("views").replaceChildren(...shown.views().map((name) => {
    const made = button(VIEWS[name], () => { player.view = name; player.draw(); tell(); }, name === player.view);
    made.dataset.view = name;
    return made;
  }));
  $("runs").replaceChildren(...runsOf(state.clip).map(([key, about]) => {
    const item = document.createElement("li");
    const words = about.state === "done" ? `${about.method.method}, ${about.seconds} s` : `${about.method.method}, ${about.state}`;
    const made = button(words, () => choose_run(key), key === run);
    made.disabled = about.state !== "done";
    item.append(made);
    return item;
  }));
  player.draw();
  tell();
  command();
  askScores();
}

function tellFacts() {
  const clip = state.clips[state.clip];
  const facts = {
    size: `${clip.width} x ${clip.height}, ${clip.frames} frames`,
    colour: clip.channels === 3 ? "yes" : "no",
    "grey levels": `${clip.darkest} to ${clip.brightest}`,
    sector: `${((100 * clip.sector_pixels) / (clip.width * clip.height)).toFixed(0)} % of the picture`,
  };
  for (const [k, note] of clip.notes.entries()) facts[`note ${k + 1}`] = note;
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([term, words]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [term, words];
    return [dt, dd];
  }));
  $("fps").value = Number(clip.fps.toFixed(3));
}

async function correct(change) {
  state.clips[state.clip] = await ask(`/api/clips/${state.clip}/sector`, { method: "POST", body: change });
  for (const [name, made] of films) if (name.startsWith(state.clip)) made.fps = state.clips[state.clip].fps;
  tellFacts();
  outlines.sector = state.clips[state.clip].sector;
  player.draw();
}

// ---------------------------------------------------------------------------------------------- runs

function showMethod() {
  const about = state.methods[$("method").value];
  $("method-help").textContent = about.summary;
  $("settings").replaceChildren(...Object.entries(about.defaults).filter(([name]) => name !== "method" && name !== "strength").map(([name, value]) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = typeof value === "number" ? "number" : "text";
    box.step = "any";
    box.value = value;
    box.name = name;
    label.append(name, " ", box);
    return label;
  }));
}

function settings() {
  const method = { method: $("method").value };
  for (const box of $("settings").querySelectorAll("input")) method[box.name] = box.type === "number" ? Number(box.value) : box.value;
  return method;
}

async function start() {
  const { key, ...run } = await ask("/api/runs", { method: "POST", body: { clip: state.clip, method: settings() } });
  state.runs[key] = run;
  await follow(key);
}

async function follow(key) {
  $("start").disabled = true;
  $("stop").disabled = false;
  $("stop").onclick = safely(() => ask(`/api/runs/${key}`, { method: "DELETE" }));
  $("progress").hidden = false;
  try {
    const began = performance.now();
    for (;;) {
      const run = (state.runs[key] = await ask(`/api/runs/${key}`));
      $("progress").max = Math.max(run.total, 1);
      $("progress").value = run.done;
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      $("status").textContent = { waiting: "Waiting for another run", running: `${run.done} of ${run.total} windows, ${seconds} s`, done: `Done in ${run.seconds} s`, stopped: "Stopped", failed: run.message }[run.state];
      if (run.state === "failed") throw new Error(run.message);
      if (run.state === "done" && run.clip === state.clip) await choose_run(key);
      if (run.state === "done" || run.state === "stopped") break;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  } finally {
    $("start").disabled = false;
    $("stop").disabled = true;
    $("progress").hidden = true;
  }
}

// ---------------------------------------------------------------------------------------------- looking

function tell() {
  const { film: shown } = player;
  $("frame").value = player.frame;
  $("time").value = `${player.frame + 1}/${shown.frames}, ${(player.frame / shown.fps).toFixed(2)} s`;
  $("play").textContent = player.playing ? "Pause" : "Play";
  $("strength-value").value = shown.strength.toFixed(2);
  $("loop").value = player.loop ? `${player.loop[0] + 1} to ${player.loop[1] + 1}` : "";
  for (const made of $("views").children) made.setAttribute("aria-pressed", made.dataset.view === player.view);
}

/** Quote a word for a shell. */
const quoted = (word) => (/^[\w./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

function command() {
  if (!state.run) return;
  const { method } = state.runs[state.run];
  const words = ["nuclear-diffusion", "dehaze", state.clips[state.clip].source, "-o", "results"];
  if (method.method !== "nuclear") words.push("--method", method.method);
  const now = { ...method };
  if ("strength" in now) now.strength = player.film.strength;
  for (const [name, value] of Object.entries(now))
    if (name !== "method" && value !== state.methods[method.method].defaults[name]) words.push(`--${name}`, String(value));
  $("command").textContent = words.map(quoted).join(" ");
}

function listen() {
  player.addEventListener("frame", tell);
  player.addEventListener("state", tell);
  let drawn = 0, since = performance.now();
  player.addEventListener("drawn", () => {
    drawn++;
    const now = performance.now();
    if (now - since > 1000) {
      $("rate").textContent = player.playing ? `${((1000 * drawn) / (now - since)).toFixed(0)} pictures/s` : "";
      [drawn, since] = [0, now];
    }
    drawLines($("mmode"), player, outlines.line);
  });
  outlines.addEventListener("change", () => askScores());
  outlines.addEventListener("sector", safely((event) => correct({ polygons: [event.detail] })));
  outlines.addEventListener("mode", () => {
    for (const [id, mode] of [["septum", "septum"], ["ventricle", "ventricle"], ["line", "line"], ["draw-sector", "sector"]])
      $(id).setAttribute("aria-pressed", outlines.mode === mode);
    $("mmode").hidden = outlines.line === null;
    player.draw();
  });
  document.addEventListener("keydown", (event) => { if (!outlines.key(event)) onKey(player, event); });
}

const set = (change) => { if (player) { change(); player.draw(); tell(); } };
$("play").onclick = () => player?.play();
$("back").onclick = () => { player?.play(false); player?.step(-1); };
$("forth").onclick = () => { player?.play(false); player?.step(1); };
$("frame").oninput = () => { player.play(false); player.seek(Number($("frame").value)); };
$("speed").onchange = () => { player.speed = Number($("speed").value); };
$("loop-from").onclick = () => set(() => { player.loop = [player.frame, Math.max(player.range[1], player.frame)]; });
$("loop-to").onclick = () => set(() => { player.loop = [Math.min(player.range[0], player.frame), player.frame]; });
$("loop-off").onclick = () => set(() => { player.loop = null; });
$("strength").oninput = () => set(() => { player.film.setStrength(Number($("strength").value)); command(); askScores(); });
$("brightness").oninput = () => set(() => { player.brightness = Number($("brightness").value); });
$("contrast").oninput = () => set(() => { player.contrast = Number($("contrast").value); });
$("reset-look").onclick = () => set(() => {
  [player.brightness, player.contrast, player.zoom, player.pan] = [0, 1, 1, [0, 0]];
  [$("brightness").value, $("contrast").value] = [0, 1];
});
for (const [id, mode] of [["septum", "septum"], ["ventricle", "ventricle"], ["line", "line"], ["draw-sector", "sector"]])
  $(id).onclick = () => outlines?.start(outlines.mode === mode ? null : mode);
$("clear-regions").onclick = () => outlines?.clear();
$("show-sector").onchange = () => set(() => { outlines.showSector = $("show-sector").checked; });
$("reset-sector").onclick = safely(() => correct({}));
$("fps").onchange = safely(() => correct({ fps: Number($("fps").value) }));
$("method").onchange = showMethod;
$("start").onclick = safely(start);
$("copy").onclick = () => navigator.clipboard.writeText($("command").textContent);

// ---------------------------------------------------------------------------------------------- scores and files

const question = (more = {}) => ({ clip: state.clip, run: state.run, strength: state.run ? player.film.strength : null, regions: outlines.polygons(), ...more });
let asking = null, again = false;
/** Ask for scores; while an answer is on its way, only the latest question waits. */
function askScores() {
  $("save-masks").disabled = !outlines.any();
  $("scores").hidden = $("curves").hidden = !outlines.any();
  if (!outlines.any()) return;
  if (asking) { again = true; return; }
  asking = safely(async () => showScores(await ask("/api/score", { method: "POST", body: question() })))().finally(() => {
    asking = null;
    if (again) { again = false; askScores(); }
  });
}

function showScores(found) {
  window.scores = found;
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  $("scores").tBodies[0].replaceChildren(...Object.keys(found.input.means).map((name) => {
    const row = document.createElement("tr");
    const cells = [`${found.input.titles[name]} ${found.input.better[name] === "higher" ? "↑" : "↓"}`, number(found.input.means[name]), number(found.result?.means[name])];
    row.append(...cells.map((text, k) => Object.assign(document.createElement(k ? "td" : "th"), { textContent: text })));
    row.dataset.score = name;
    return row;
  }));
  drawCurves($("curves"), found, player.film.frames);
}

async function download(path, body) {
  const reply = await ask(path, { method: "POST", body, raw: true });
  const name = /filename="(.*)"/.exec(reply.headers.get("content-disposition"))?.[1] ?? "result";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
$("save").onclick = safely(() => download("/api/save", question({ kind: $("kind").value })));
$("save-masks").onclick = safely(() => download("/api/masks", question()));

$("drop").onclick = () => $("pick").click();
$("drop").onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("pick").click(); } };
$("pick").onchange = safely(async () => { for (const file of $("pick").files) await upload(file); $("pick").value = ""; });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", safely(async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  for (const file of event.dataTransfer.files) await upload(file);
}));

async function list(folder) {
  const found = await ask(`/api/files?folder=${encodeURIComponent(folder)}`);
  $("folder").textContent = found.folder;
  const entries = found.entries.map((entry) => ({ ...entry, words: entry.folder && !entry.result ? `${entry.name}/` : entry.name }));
  if (found.up) entries.unshift({ words: "../", path: found.up, folder: true });
  $("entries").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li");
    item.append(button(entry.words, () => (entry.folder && !entry.result ? list(entry.path) : pick(entry.path))));
    if (entry.folder && !entry.result && entry.name) item.append(button("as one clip", () => pick(entry.path)));
    return item;
  }));
}
async function pick(path) {
  $("files").close();
  await opened(await ask("/api/open", { method: "POST", body: { path } }));
}
$("browse").onclick = safely(async () => { await list(state.folders[0]); $("files").showModal(); });
$("close-files").onclick = () => $("files").close();

// ---------------------------------------------------------------------------------------------- sheet of results

let results = [];
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting || target.src) continue;
    safely(async () => {
      target.src = URL.createObjectURL(await (await ask(`/api/file?path=${encodeURIComponent(target.dataset.path)}`, { raw: true })).blob());
      await target.play().catch(() => {});
    })();
  }
});
function showSheet() {
  const by = $("sort").value;
  const order = [...results].sort((a, b) => (by === "name" ? a.name.localeCompare(b.name, undefined, { numeric: true }) : (b[by] ?? -1) - (a[by] ?? -1)));
  $("cards").replaceChildren(...order.map((entry) => {
    const card = button("", () => { $("sheet").close(); return pick(entry.path); });
    card.className = "card";
    const words = (name, value) => (value === null || value === undefined ? "" : `${name} ${(100 * value).toFixed(1)} %`);
    if (entry.video) {
      const video = Object.assign(document.createElement("video"), { muted: true, loop: true, playsInline: true });
      video.dataset.path = entry.video;
      card.append(video);
      seen.observe(video);
    }
    const text = entry.problem ?? [words("haze removed", entry.haze_energy_removed), words("tissue changed", entry.bright_tissue_changed), words("bright tissue lost", entry.bright_tissue_lost), entry.flicker == null ? "" : `flicker ${entry.flicker.toFixed(2)}`].filter(Boolean).join(", ");
    card.append(Object.assign(document.createElement("strong"), { textContent: entry.name }), document.createElement("br"), text);
    return card;
  }));
}
$("sheet-open").onclick = safely(async () => {
  results = (await Promise.all(state.folders.map((folder) => ask(`/api/results?folder=${encodeURIComponent(folder)}`)))).flat();
  showSheet();
  $("sheet").showModal();
});
$("sort").onchange = showSheet;
$("close-sheet").onclick = () => $("sheet").close();

safely(load)();
