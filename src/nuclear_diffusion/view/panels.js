// Several films of one clip in step, one panel each: one clock, one zoom, one wipe line and one strength for all.
// It stands in a page behind player.js, in the same script.

const TALL = 0.72; // of the window, for all panels together
const SEEN = { result: "Result", wipe: "Wipe", flicker: "Flicker A/B", haze: "Haze removed" };

class Films {
  /**
   * @param {HTMLElement} root with the places of template report.html
   * @param {{title:string,caption:string,panels:object[]}[]} patients with their films; the first panel is the input
   */
  constructor(root, patients) {
    this.root = root;
    this.patients = patients;
    this.players = [];
    this.of = (name) => root.querySelector(`[name="${name}"]`);
    this._buttons("patients", Object.fromEntries(patients.map(({ title }, k) => [k, title])), (k) => this.choose(Number(k)));
    this.of("patients").hidden = patients.length < 2;
    this._buttons("views", SEEN, (view) => this.show(view));
    this.of("play").onclick = () => this.leader.play();
    this.of("back").onclick = () => { this.leader.play(false); this.leader.step(-1); };
    this.of("forth").onclick = () => { this.leader.play(false); this.leader.step(1); };
    this.of("frame").oninput = () => { this.leader.play(false); this.leader.seek(Number(this.of("frame").value)); };
    this.of("strength").oninput = () => this.setStrength(Number(this.of("strength").value));
    this.of("wipe").oninput = () => this._share({ ...this.shared, wipe: Number(this.of("wipe").value) });
    this.of("speed").onchange = () => { this.leader.speed = Number(this.of("speed").value); };
    root.addEventListener("keydown", (event) => onKey(this.leader, event));
    window.addEventListener("resize", () => this._arrange());
    // The page scrolls with the wheel until the films have the focus.
    root.addEventListener("wheel", (event) => { if (!root.contains(document.activeElement)) event.stopPropagation(); }, true);
  }

  _buttons(place, words, action) {
    this.of(place).replaceChildren(...Object.entries(words).map(([key, text]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text, value: key });
      button.onclick = () => action(key);
      return button;
    }));
  }

  /** The player of the input, whose clock the others follow. */
  get leader() {
    return this.players[0];
  }

  /** Show a patient; resolves when the panels are drawn. */
  async choose(number) {
    this.chosen = number;
    const { caption, panels } = this.patients[number];
    const films = [];
    for (const { info, planes } of panels) {
      const film = await unpacked(info, planes);
      if (films.length) film.input = films[0].input; // sent once
      film.views = () => Object.keys(SEEN);
      films.push(film);
    }
    if (this.chosen !== number) return; // another was chosen meanwhile
    const { playing = false, frame = 0, speed = 1, view = "result", wipe = 0.5 } = this.leader ?? {};
    this.leader?.play(false);
    this.root.querySelector(".panels").replaceChildren(...panels.map(({ title, scores }) => {
      const panel = document.createElement("figure");
      panel.innerHTML = '<figcaption><strong></strong><span class="quiet"></span></figcaption><div class="stage"><canvas tabindex="0"></canvas></div>';
      panel.querySelector("strong").textContent = title;
      panel.querySelector("span").textContent = scores;
      panel.querySelector("canvas").setAttribute("aria-label", `${title}: ${scores}`);
      return panel;
    }));
    this.players = [...this.root.querySelectorAll("canvas")].map((canvas, k) => new Player(canvas, films[k]));
    for (const [k, player] of this.players.entries()) {
      const result = { name: panels[k].shows, film: films[k], what: "result" };
      if (k) player.setSources([{ name: "input", film: films[k], what: "input" }, result]);
      player.addEventListener("drawn", () => this._join(player));
    }
    this.leader.addEventListener("frame", () => this._follow());
    this.leader.addEventListener("state", () => this._follow());
    Object.assign(this.leader, { view, speed });
    this._share({ zoom: 1, pan: [0, 0], wipe });
    this._arrange();
    this.of("frame").max = films[0].frames - 1;
    this.of("caption").textContent = caption;
    const live = films.find((film) => film.share !== null);
    this.of("knob").hidden = !live;
    if (live) this.setStrength(this.strength ?? live.strength);
    this.leader.seek(frame);
    if (playing) this.leader.play(true);
    this._follow();
  }

  /** As many columns as make the pictures largest; all panels fit into the window at once. */
  _arrange() {
    const place = this.root.querySelector(".panels"), { width, height } = this.leader.film, count = this.players.length;
    const name = place.querySelector("figcaption").offsetHeight + 2;
    let best = { tall: 0 };
    for (let columns = 1; columns <= count; columns++) {
      const room = (TALL * window.innerHeight) / Math.ceil(count / columns) - name;
      const tall = Math.min(room, ((place.clientWidth / columns) * height) / width);
      if (tall > best.tall) best = { tall, columns };
    }
    place.style.setProperty("--columns", best.columns);
    place.style.setProperty("--tall", `${Math.floor(best.tall)}px`);
  }

  show(view) {
    this.leader.view = view;
    this._follow();
  }

  /** Turn the strength of every method that has a haze fraction. */
  setStrength(strength) {
    this.strength = strength;
    for (const player of this.players) player.setStrength(strength);
    this.of("strength").value = strength;
    this.of("strength-value").value = strength.toFixed(2);
  }

  /** Frame, view and flicker of all are those of the leader. */
  _follow() {
    const { leader } = this;
    for (const player of this.players.slice(1)) {
      Object.assign(player, { view: leader.view, flipped: leader.flipped });
      player.seek(leader.frame);
    }
    this.of("play").textContent = leader.playing ? "Pause" : "Play";
    this.of("frame").value = leader.frame;
    this.of("time").value = `${leader.frame + 1}/${leader.film.frames}, ${(leader.frame / leader.film.fps).toFixed(2)} s`;
    this.of("line").hidden = leader.view !== "wipe";
    for (const button of this.of("views").children) button.setAttribute("aria-pressed", button.value === leader.view);
    for (const button of this.of("patients").children) button.setAttribute("aria-pressed", Number(button.value) === this.chosen);
  }

  /** Zoom, pan and wipe line of all are those of the panel that was touched, which differ from what all had. */
  _join({ zoom, pan, wipe }) {
    const { shared } = this;
    if (zoom !== shared.zoom || pan !== shared.pan || wipe !== shared.wipe) this._share({ zoom, pan, wipe });
  }

  _share(shared) {
    this.shared = shared;
    this.of("wipe").value = shared.wipe;
    for (const player of this.players) {
      Object.assign(player, shared);
      player.draw();
    }
  }
}
