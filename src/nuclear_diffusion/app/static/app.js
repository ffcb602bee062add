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
document.addEventListener("keydown", (event) => { if (event.key === "Escape") $("error").hidden = true; });
/** Run a handler; what it throws is shown. */
const safely = (action) => async (...args) => { try { return await action(...args); } catch (error) { complain(error); } };

const state = { clips: {}, runs: {}, methods: {}, kinds: {}, folders: [], clip: null, run: null, other: null };
const films = new Map(); // by clip, or by clip and run
let player = null;
let outlines = null;

// ---------------------------------------------------------------------------------------------- clips

async function load() {
  Object.assign(state, await ask("/api/state"));
  for (const [name, about] of Object.entries(state.methods)) $("method").add(new Option(about.title, name, name === "nuclear", name === "nuclear"));
  for (const [kind, words] of Object.entries(state.kinds)) $("kind").add(new Option(words, kind));
  $("browse").hidden = state.folders.length === 0;
  $("sheet-open").hidden = state.folders.length === 0;
  showMethod();
  listClips();
  const wanted = sessionStorage.getItem("clip");
  const first = wanted in state.clips ? wanted : Object.keys(state.clips)[0];
  if (first) await choose(first);
  await watch();
}

/** A name, with the place of what others are called, too. */
const told = (name, place, others) => [name, ...(others.filter((other) => other.name === name).length > 1 ? [quiet(place)] : [])];
const quiet = (textContent) => Object.assign(document.createElement("span"), { className: "quiet small", textContent });

function listClips() {
  $("clips").replaceChildren(...Object.entries(state.clips).map(([key, clip]) => {
    const item = document.createElement("li");
    const made = button("", () => choose(key), key === state.clip);
    made.append(...told(clip.name, clip.source, Object.values(state.clips)));
    item.append(made, button("×", () => close(key), null, `Close ${clip.name}`));
    return item;
  }));
  $("clips").querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest" });
}

/** A button; `pressed` of one that stays down. */
function button(text, action, pressed = null, label = "") {
  const made = document.createElement("button");
  made.textContent = text;
  if (pressed !== null) made.setAttribute("aria-pressed", pressed);
  if (label) made.setAttribute("aria-label", label);
  made.onclick = safely(action);
  return made;
}

/** Files that were dropped; one that cannot be read does not stop the others. */
async function upload(files) {
  $("error").hidden = true;
  for (const file of files) await safely(read)(file.name, `/api/clips?name=${encodeURIComponent(file.name)}`, file);
}

async function read(name, path, body) {
  $("drop").textContent = `Reading ${name} …`;
  try {
    const { key, runs, ...clip } = await ask(path, { method: "POST", body });
    state.clips[key] = clip;
    Object.assign(state.runs, runs);
    await choose(key);
  } finally {
    $("drop").textContent = "Drop a clip, or click";
  }
}

async function close(key) {
  await ask(`/api/clips/${key}`, { method: "DELETE" });
  Outlines.forget(key);
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
  tellProgress();
  state.other = null;
  await choose_run(done.length ? done.at(-1)[0] : null);
}

const runsOf = (clip) => Object.entries(state.runs).filter(([, run]) => run.clip === clip);

/** The clip, or a result of it, without the parts that only some views need. */
async function film(clip, run) {
  const name = run ? `${clip} ${run}` : clip;
  if (films.has(name)) return films.get(name);
  const input = films.get(clip)?.input ?? new Uint8Array(await bytes(`/api/clips/${clip}/planes/input`));
  const made = new Film({ ...state.clips[clip] }, input);
  if (run) {
    for (const plane of ["share", "signal"]) await fetchPlane(made, run, plane);
    made.setStrength(state.runs[run].method.strength ?? 0.5);
  }
  films.set(name, made);
  return made;
}

async function fetchPlane(made, run, plane) {
  if (made[plane] !== null || !state.runs[run]?.planes.includes(plane)) return;
  const raw = await bytes(`/api/runs/${run}/planes/${plane}`);
  made[plane] = plane === "share" ? new Uint16Array(raw) : new Uint8Array(raw);
}

/** What was set of a run: the settings that are not the default, without the strength, which is the knob's; the sector. */
function changed({ method, sector }) {
  const { defaults } = state.methods[method.method];
  const set = Object.entries(method).filter(([name, value]) => !["method", "strength"].includes(name) && value !== defaults[name]);
  return [...set.map(([name, value]) => `${name} ${String(value).split(/[\\/]/).at(-1)}`), ...(sector === "drawn" ? ["drawn sector"] : [])];
}

/** The names of the runs of a clip: the method and what was set, numbered where that is the same. */
function namesOf(clip) {
  const names = {}, seen = {};
  for (const [key, run] of runsOf(clip)) {
    const name = [state.methods[run.method.method].title, ...changed(run)].join(", ");
    seen[name] = (seen[name] ?? 0) + 1;
    names[key] = seen[name] > 1 ? `${name} (${seen[name]})` : name;
  }
  return names;
}

/** The input and all finished results of the clip, each with a name of its own. */
async function sources(clip) {
  const found = [{ key: null, name: "input", film: await film(clip, null), what: "input" }];
  for (const [key, name] of Object.entries(namesOf(clip)))
    if (state.runs[key]?.state === "done") found.push({ key, name, film: await film(clip, key), what: "result" });
  return found;
}

/** Show a result (null: the clip alone) beside the input or beside the other result that was chosen. */
async function choose_run(run) {
  const before = states(state.runs);
  try {
    await present(run);
  } catch (error) {
    state.runs = await ask("/api/runs");
    if (states(state.runs) === before) throw error;
    await choose_run(run in state.runs ? run : null); // another tab has removed one meanwhile
  }
}

async function present(run) {
  const { clip } = state;
  state.run = run;
  const all = await sources(clip);
  const b = Math.max(all.findIndex(({ key }) => key === run), 0);
  const { film: shown } = all[b];
  for (const plane of ["background", "deviation"]) if (run) await fetchPlane(shown, run, plane);
  if (clip !== state.clip || run !== state.run) return; // another was chosen meanwhile
  const a = Math.max(all.findIndex(({ key }) => key === state.other && key !== run), 0);
  if (player === null) {
    player = new Player($("screen"), shown);
    outlines = new Outlines(player, state);
    player.setSources(all, a, b);
    listen();
    window.player = player;
    window.outlines = outlines;
  } else player.setSources(all, a, b);
  if (!player.views().includes(player.view)) player.view = player.views()[0] ?? "side";
  outlines.restore(clip);
  outlines.sector = state.clips[clip].sector;
  $("empty").hidden = true;
  for (const id of ["understood", "method-panel", "look", "regions"]) $(id).hidden = false;
  $("saving").hidden = run === null;
  $("frame").max = shown.frames - 1;
  $("strength").value = player.strength ?? 0.5;
  $("knob").hidden = all.every((each) => each.film.share === null);
  $("views").replaceChildren(...player.views().map((name, k) => {
    const made = button(VIEWS[name], () => { player.view = name; player.draw(); tell(); }, name === player.view);
    made.dataset.view = name;
    made.title = `Key ${k + 1}`;
    return made;
  }));
  $("views").hidden = run === null;
  $("pair").hidden = all.length < 3;
  $("a").replaceChildren(...all.map(({ name }, k) => new Option(name, k, k === a, k === a)));
  $("b").replaceChildren(...all.slice(1).map(({ name }, k) => new Option(name, k + 1, k + 1 === b, k + 1 === b)));
  listRuns();
  player.draw();
  tell();
  command();
  askScores();
}

function listRuns() {
  const names = namesOf(state.clip);
  $("runs").replaceChildren(...runsOf(state.clip).map(([key, about]) => {
    const item = document.createElement("li");
    const made = button(names[key], () => choose_run(key), key === state.run);
    const words = { done: about.seconds ? `${about.seconds} s` : "from a file", failed: about.message }[about.state] ?? about.state;
    made.append(quiet(words));
    made.disabled = about.state !== "done";
    item.append(made, button("×", () => forget(key), null, `Forget ${names[key]}`));
    return item;
  }));
}

/** Forget a run; one that is going is stopped. */
async function forget(key) {
  await ask(`/api/runs/${key}`, { method: "DELETE" });
  delete state.runs[key];
  safely(watch)(); // an answer on its way may hold it still
  films.delete(`${state.clip} ${key}`);
  if (state.other === key) state.other = null;
  const left = runsOf(state.clip).filter(([, run]) => run.state === "done");
  await choose_run(state.run !== key ? state.run : left.length ? left.at(-1)[0] : null);
}

const counted = ({ frames }) => `${frames} frame${frames === 1 ? "" : "s"}`;

function tellFacts() {
  const clip = state.clips[state.clip];
  const facts = {
    size: `${clip.width} x ${clip.height}, ${counted(clip)}`,
    values: `${clip.darkest} to ${clip.brightest}, ${clip.channels === 3 ? "colour" : "grey"}`,
    sector: `${((100 * clip.sector_pixels) / (clip.width * clip.height)).toFixed(0)} % of the picture`,
  };
  for (const [k, note] of clip.notes.entries()) facts[`note ${k + 1}`] = note;
  $("facts").replaceChildren(...Object.entries(facts).flatMap(([term, words]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [term, words];
    return [dt, dd];
  }));
  $("white").value = clip.white ?? "";
  $("white-line").hidden = clip.result;
  document.title = clip.name;
  if (document.activeElement !== $("fps")) tellRate(); // else it is being typed
}

function tellRate() {
  $("fps").value = Number(state.clips[state.clip].fps.toFixed(3));
}

let corrected = Promise.resolve();
/** Correct the clip; corrections go out one after another, so that the last answer holds them all. */
function correct(change) {
  const { clip } = state;
  corrected = corrected.catch(() => {}).then(() => correctClip(clip, change));
  return corrected;
}

async function correctClip(clip, change) {
  state.clips[clip] = await ask(`/api/clips/${clip}/sector`, { method: "POST", body: change });
  for (const [name, made] of films) if (name.startsWith(clip)) made.fps = state.clips[clip].fps;
  if (clip !== state.clip) return; // another was chosen meanwhile
  tellFacts();
  outlines.sector = state.clips[clip].sector;
  player.draw();
}

let rereading = Promise.resolve();
/** Read a clip again with the white that was typed. */
async function reread(clip) {
  try {
    const white = $("white").value === "" ? null : Number($("white").value);
    state.clips[clip] = await ask(`/api/clips/${clip}/white`, { method: "POST", body: { white } });
    for (const name of [...films.keys()]) if (name.startsWith(clip)) films.delete(name);
    if (clip === state.clip) await choose(clip);
  } finally {
    tellFacts(); // what holds, if the number was refused
  }
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
  for (const box of $("settings").querySelectorAll("input"))
    if (box.value !== "") method[box.name] = box.type === "number" ? Number(box.value) : box.value;
  return method;
}

const isGoing = (run) => run.state === "waiting" || run.state === "running";

let starting = false;
async function start() {
  $("error").hidden = true;
  $("start").disabled = starting = true; // before the answer, so that a second click starts no second run
  try {
    await rereading.catch(() => {}); // a white that was typed just before; if it was refused, the page says so
    const { key, ...run } = await ask("/api/runs", { method: "POST", body: { clip: state.clip, method: settings() } });
    state.runs[key] = run;
    going.add(key);
  } finally {
    starting = false;
    tellProgress();
  }
  listRuns();
  $("runs").lastElementChild.scrollIntoView({ block: "nearest" }); // and so the progress above it
  await watch();
}

/** The run of the clip that is going: its progress, and whether another one can be started. */
function tellProgress() {
  const [key, run] = runsOf(state.clip).find(([, each]) => isGoing(each)) ?? [null, null];
  $("start").disabled = starting || run !== null;
  $("stop").disabled = run === null || run.stopping;
  $("stop").onclick = safely(async () => {
    await ask(`/api/runs/${key}/stop`, { method: "POST" });
    await watch();
  });
  $("progress").hidden = run === null;
  $("progress").max = Math.max(run?.total ?? 1, 1);
  $("progress").value = run?.done ?? 0;
  if (run?.state === "running" && run.done === 0) $("progress").removeAttribute("value"); // it moves, but how far it is is not known
  const far = () => `${run.frames} of ${counted(state.clips[state.clip])}, ${Math.floor((100 * run.done) / run.total)} %`;
  const doing = () => (run.stopping ? "Stops at its next step" : run.done ? far() : "Prepares");
  $("status").textContent = run === null ? "" : run.state === "waiting" ? "Waits for another run" : `${doing()}, ${run.seconds.toFixed(0)} s`;
}

const going = new Set(); // runs whose end is still to be shown
let watching = false, asked = false;
/** Ask for the state of all runs, those of other tabs too, until none is going. */
async function watch() {
  asked = true;
  if (watching) return;
  watching = true;
  try {
    while (asked || Object.values(state.runs).some(isGoing)) {
      asked = false;
      const before = state.runs;
      state.runs = await ask("/api/runs");
      tellProgress();
      if (states(before) !== states(state.runs)) listRuns();
      for (const [key, run] of Object.entries(state.runs)) {
        if (isGoing(run)) going.add(key);
        else if (!going.delete(key)) continue;
        else if (run.state === "failed") complain(new Error(run.message));
        else if (run.state === "done" && run.clip === state.clip) await safely(choose_run)(key);
      }
      if (!asked && Object.values(state.runs).some(isGoing)) await new Promise((resolve) => setTimeout(resolve, 300));
    }
  } finally {
    watching = false;
  }
}
const states = (runs) => Object.entries(runs).map(([key, run]) => key + run.state).join();

// ---------------------------------------------------------------------------------------------- looking

/** Set a property if it differs: the page is laid out anew after each change, and this runs at every frame. */
function put(node, name, value) {
  if (node[name] !== value) node[name] = value;
}

function tell() {
  const { film: shown, loop } = player;
  put($("frame"), "value", String(player.frame));
  put($("time"), "value", `${player.frame + 1}/${shown.frames}, ${(player.frame / shown.fps).toFixed(2)} s`);
  put($("play"), "textContent", player.playing ? "Pause" : "Play");
  put($("strength-value"), "value", (player.strength ?? 0.5).toFixed(2));
  put($("loop"), "value", loop ? `${loop[0] + 1} to ${loop[1] + 1}, ${((loop[1] - loop[0] + 1) / shown.fps).toFixed(2)} s` : "");
  put($("beat"), "hidden", !loop);
  if (loop) {
    const at = (frame) => (shown.frames > 1 ? frame / (shown.frames - 1) : 0);
    $("beat").style.setProperty("--from", at(loop[0]));
    $("beat").style.setProperty("--to", at(loop[1]));
  }
  for (const made of $("views").children) made.setAttribute("aria-pressed", made.dataset.view === player.view);
}

/** Quote a word for a shell. */
const path = (name) => (name.startsWith("-") ? `./${name}` : name); // not a flag
const quoted = (word) => (/^[\w./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

function command() {
  if (!state.run) return;
  const { method, sector, folder } = state.runs[state.run];
  const { source, rate, white, sector_file: file } = state.clips[state.clip];
  const tellWords = (all) => {
    $("command").replaceChildren(...all.flatMap((word) => [Object.assign(document.createElement("span"), { textContent: quoted(word) }), " "]));
    $("command-note").hidden = !all.includes("--sector");
  };
  if (folder !== null && method.method === "nuclear" && rate === null) // what is there needs only another strength
    return tellWords(["nuclear-diffusion", "render", path(folder), "--strength", String(player.strength), "-o", "results"]);
  const words = ["nuclear-diffusion", "dehaze", path(source), "-o", "results"];
  if (rate !== null) words.push("--fps", String(rate));
  if (white !== null) words.push("--white", String(white));
  if (sector === "drawn") words.push("--sector", path(file));
  if (sector === "result") words.push("--sector-from", path(source));
  if (method.method !== "nuclear") words.push("--method", method.method);
  const now = { ...method };
  if ("strength" in now) now.strength = player.strength;
  for (const [name, value] of Object.entries(now))
    if (name !== "method" && value !== state.methods[method.method].defaults[name]) words.push(`--${name}`, String(value));
  tellWords(words);
}

const HINTS = {
  region: "Set corners with a click, or with arrow keys and Enter. Click the first one or press Enter to close. Drag corners later, or press e: the frame becomes a key frame, and the frames between are interpolated.",
  line: "Set both ends with a click, or with arrow keys and Enter.",
  edit: "Tab chooses a corner, arrow keys move it, Enter ends.",
};

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
    $("hint").hidden = outlines.mode === null;
    $("hint").textContent = HINTS[outlines.mode] ?? HINTS.region;
    player.draw();
  });
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || outlines.key(event) || onKey(player, event) || event.key !== "?") return;
    $("help").open = true;
    $("help").scrollIntoView();
  });
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
$("strength").oninput = () => set(() => { player.setStrength(Number($("strength").value)); command(); askScores(); });
$("a").onchange = safely(() => { state.other = player.sources[$("a").value].key; return choose_run(state.run); });
$("b").onchange = safely(() => choose_run(player.sources[$("b").value].key));
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
$("reset-sector").onclick = safely(() => correct({ polygons: [] }));
$("fps").onchange = safely(async () => {
  try {
    if ($("fps").value !== "") await correct({ fps: Number($("fps").value) });
  } finally {
    tellRate(); // what holds, if the box is empty or its number was refused
    command();
  }
});
$("white").onchange = safely(() => { rereading = reread(state.clip); return rereading; });
$("method").onchange = showMethod;
$("start").onclick = safely(start);
$("copy").onclick = safely(async () => {
  await navigator.clipboard.writeText($("command").textContent.trim());
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 2000);
});

// ---------------------------------------------------------------------------------------------- scores and files

/** What is asked about: the chosen result first, then the others. */
const question = (more = {}) => {
  const others = player.sources.map(({ key }) => key).filter((key) => key !== null && key !== state.run);
  const runs = state.run ? [state.run, ...others] : [];
  return { clip: state.clip, runs, strength: player.strength, regions: outlines.polygons(), ...more };
};
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

/** A colour of the figures, lighter where it would be too dark on this ground. */
function light(color) {
  const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const dark = 0.2 * parts[0] + 0.7 * parts[1] + 0.1 * parts[2] < 90;
  return `rgb(${parts.map((part) => Math.round(dark ? part + 0.35 * (255 - part) : part)).join(" ")})`;
}

function showScores(found) {
  window.scores = found;
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
  const shown = player.sources.filter(({ key }) => key === null || key in found.results);
  const lines = {};
  const columns = shown.map(({ key, name }) => {
    const method = state.runs[key]?.method.method;
    const look = key === null ? { color: "#a5adb5", dash: [4, 3] } : state.methods[method];
    const others = (lines[method] = (lines[method] ?? -1) + 1); // of the same method, and so of its colour
    return { name, dash: others ? [1, 1 + 2 * others] : look.dash, others, color: light(look.color), ...(key === null ? found.input : found.results[key]) };
  });
  const { titles, better } = found.input;
  const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
  $("scores").tHead.rows[0].replaceChildren(cell("th", ""), ...columns.map(({ name, color, dash, others }) => {
    const made = cell("th", name);
    made.scope = "col";
    made.style.borderBottom = `3px ${others ? "dotted" : dash.length ? "dashed" : "solid"} ${color}`;
    return made;
  }));
  $("scores").tBodies[0].replaceChildren(...Object.keys(found.input.means).map((name) => {
    const row = document.createElement("tr");
    row.append(cell("th", `${titles[name]}\u00a0${better[name] === "higher" ? "↑" : "↓"}`), ...columns.map(({ means }) => cell("td", number(means[name]))));
    row.dataset.score = name;
    return row;
  }));
  curves = () => drawCurves($("curves"), columns, titles, player.film.frames);
  curves();
}
let curves = () => {};
new ResizeObserver(() => curves()).observe($("curves"));

async function download(path, body) {
  const reply = await ask(path, { method: "POST", body, raw: true });
  const said = reply.headers.get("content-disposition") ?? "";
  const name = decodeURIComponent(/filename="(.*)"/.exec(said)?.[1] ?? /filename\*=utf-8''(.*)/i.exec(said)?.[1] ?? "result");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reply.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
$("save").onclick = safely(async () => {
  $("save").disabled = true;
  $("save").textContent = "Saving …";
  try {
    await download("/api/save", question({ kind: $("kind").value, ...compared($("kind").value) }));
  } finally {
    $("save").disabled = false;
    $("save").textContent = "Save";
  }
});
/** A comparison shows what the page shows: all results, or the two that stand side by side. */
function compared(kind) {
  if (kind.startsWith("comparison") && player.view === "all") return {};
  return { runs: kind.startsWith("comparison") && state.other && state.other !== state.run ? [state.other, state.run] : [state.run] };
}
$("save-masks").onclick = safely(() => download("/api/masks", question()));

$("drop").onclick = () => $("pick").click();
$("drop").onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("pick").click(); } };
$("pick").onchange = safely(async () => { await upload([...$("pick").files]); $("pick").value = ""; });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", safely(async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry());
  if (entries.some((entry) => entry?.isDirectory)) throw new Error("A folder cannot be dropped: start the app with it, then choose it under Browse.");
  await upload([...event.dataTransfer.files]);
}));

/** List a folder, or the folders that were given. */
async function list(folder) {
  const given = state.folders.map((path) => ({ words: path, path, folder: true }));
  const found = folder === null ? { folder: "Folders", entries: given } : await ask(`/api/files?folder=${encodeURIComponent(folder)}`);
  $("folder").textContent = found.folder;
  const entries = found.entries.map((entry) => ({ words: entry.name + (entry.result ? " (result)" : entry.folder ? "/" : ""), ...entry }));
  if (found.up) entries.unshift({ words: "../", path: found.up, folder: true });
  else if (folder !== null && given.length > 1) entries.unshift({ words: "../", path: null, folder: true });
  $("entries").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li");
    item.append(button(entry.words, () => (entry.folder && !entry.result ? list(entry.path) : pick(entry.path))));
    if (entry.folder && !entry.result && entry.name) item.append(button("as one clip", () => pick(entry.path)));
    return item;
  }));
}
async function pick(path) {
  $("files").close();
  $("error").hidden = true;
  await read(path.split(/[\\/]/).at(-1), "/api/open", { path });
}
$("browse").onclick = safely(async () => { await list(state.folders.length > 1 ? null : state.folders[0]); $("files").showModal(); });
$("close-files").onclick = () => $("files").close();

// ---------------------------------------------------------------------------------------------- sheet of results

let results = [];
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) target.pause();
    else if (target.src) target.play().catch(() => {});
    else safely(async () => {
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
    const name = document.createElement("strong");
    name.append(...told(entry.name, entry.path, results));
    card.append(name, text);
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
window.addEventListener("focus", safely(async () => { // another tab may have opened a clip, or started or removed a run
  state.clips = { ...(await ask("/api/state")).clips, ...state.clips };
  listClips();
  await watch();
}));
