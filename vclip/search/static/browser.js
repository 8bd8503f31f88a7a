// The page's side of RetrievalBrowser. Whatever comes from files (names, captions, errors) is set as text, never as markup.
const PATIENCE = 20000; // ms without an answer before the reader is told

const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: `vclip-${name}`, textContent: text });

// Questions to Python, each answered once; answers to other views are passed over. `late` is called when one takes long,
// `heard` at every answer.
function asker(model, late, heard) {
  const open = new Map(), prefix = `${Date.now()}-${Math.random()}-`;
  let count = 0;
  const hear = (message, buffers) => {
    const question = open.get(message.id);
    if (!question) return;
    open.delete(message.id);
    clearTimeout(question.timer);
    heard();
    if (message.error !== undefined) question.reject(new Error(message.error));
    else question.resolve({ ...message.answer, buffer: buffers?.[0] });
  };
  model.on("msg:custom", hear);
  const ask = (action, values = {}) => new Promise((resolve, reject) => {
    const id = prefix + count++;
    open.set(id, { resolve, reject, timer: setTimeout(late, PATIENCE) });
    model.send({ id, action, values });
  });
  const stop = () => {
    model.off("msg:custom", hear);
    open.forEach(({ timer }) => clearTimeout(timer));
  };
  return { ask, stop };
}

function render({ model, el }) {
  const root = el.appendChild(make("div", "browser"));
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would move between cells on arrow keys
  const status = make("div", "status");
  status.setAttribute("role", "status");
  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("vclip-wrong", wrong);
  };
  const LATE = "No answer from Python yet: it may be busy, or its kernel has stopped (run the cell again).";
  const { ask, stop } = asker(model, () => say(LATE, true), () => status.textContent === LATE && say(""));

  const form = root.appendChild(make("form", "search"));
  const field = (name, type, placeholder, label) => {
    const input = Object.assign(make("input", name), { type, placeholder, title: label });
    input.setAttribute("aria-label", label);
    return form.appendChild(input);
  };
  const query = field("query", "text", "Describe a moment in a few words, for instance: pour coffee into a mug", "what to search for");
  form.appendChild(make("button", "go", "Search")).type = "submit";
  const files = field("files", "text", "only files named…", "part of a file's name, or a pattern such as cooking/*.mp4");
  const least = Object.assign(field("least", "number", "min. percentile", "smallest percentile, 0 to 100: the share of everyday sentences that score lower on this index"), { min: 0, max: 100, step: "any" });
  const save = Object.assign(form.appendChild(make("button", "save", "Save as CSV")), { type: "button" });
  root.appendChild(status);
  const main = root.appendChild(make("div", "main"));
  const list = main.appendChild(make("ol", "hits"));
  list.tabIndex = 0;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "moments found");
  const stage = main.appendChild(make("div", "stage"));
  const title = stage.appendChild(make("div", "title"));
  const player = makePlayer((key, n) => ask("piece", { key, n }), say);
  const curve = makeCurve((time) => player.seek(time));
  const others = make("ol", "others");
  stage.append(player.box, curve.box, make("div", "caption", "Nearest confusions: the best moments of other videos"), others);
  stage.hidden = true;
  player.video.addEventListener("timeupdate", () => curve.at(player.video.currentTime));
  player.video.addEventListener("seeking", () => curve.at(player.video.currentTime));

  let hits = [], chosen = -1, urls = [], timer = null, shown = 0, searches = 0, typing = false;
  const row = (hit, pictured) => {
    const item = make("li", "hit");
    item.setAttribute("role", "option");
    Object.assign(item.dataset, { start: hit.start, end: hit.end });
    if (pictured) item.appendChild(make("img", "thumb")).alt = "";
    const words = item.appendChild(make("div", "words"));
    words.append(make("div", "video", hit.video), make("div", "time", `${clock(hit.start)} – ${clock(hit.end)}`));
    const standing = hit.percentile === null ? "" : ` · above ${(100 * hit.percentile).toFixed(0)} % of everyday sentences`;
    const margin = hit.margin === null ? "" : ` · ${hit.margin < 0 ? "" : "+"}${number(hit.margin)} over the best other video`;
    words.append(make("div", "score", `score ${number(hit.score)}${margin}${standing}`));
    if (hit.text) words.append(make("div", "said", hit.text));
    return item;
  };
  const illustrate = async (items) => { // one after the other: Python answers in turn, and a click shall not wait for ten
    for (const [i, item] of items.entries()) {
      if (!item.isConnected) return;
      const image = item.querySelector("img");
      try {
        const { buffer } = await ask("thumbnail", { key: hits[i].key });
        if (item.isConnected) urls.push((image.src = URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }))));
      } catch (error) {
        image.alt = error.message;
      }
    }
  };
  const show = async (hit, playing) => {
    const mine = ++shown;
    stage.hidden = false;
    title.textContent = `${hit.video}, ${clock(hit.start)} – ${clock(hit.end)}`;
    others.replaceChildren();
    curve.open(hit.seconds, hit.start, hit.end);
    try {
      const pictured = player.open(hit.key, hit.seconds, hit.start, hit.end);
      if (playing) player.play();
      await pictured; // the rest may take long for a long video, so it is asked for later
      if (mine !== shown) return;
      const { scores } = await ask("explain", { key: hit.key });
      if (mine !== shown) return;
      curve.draw(scores);
      const { rows } = await ask("confusions", { key: hit.key });
      if (mine !== shown) return;
      others.replaceChildren(...rows.map((other) => {
        const item = row(other, false);
        item.tabIndex = 0;
        item.addEventListener("click", () => show(other, true));
        item.addEventListener("keydown", (event) => event.key === "Enter" && show(other, true));
        return item;
      }));
    } catch (error) {
      if (mine !== shown) return;
      curve.label("no scores");
      say(error.message, true);
    }
  };
  const choose = (i, playing) => {
    if (!hits.length) return;
    chosen = Math.max(0, Math.min(i, hits.length - 1));
    [...list.children].forEach((item, j) => {
      item.setAttribute("aria-selected", j === chosen);
      if (j === chosen) item.scrollIntoView({ block: "nearest" });
    });
    clearTimeout(timer); // a held arrow key passes by hits without fetching them
    timer = setTimeout(() => show(hits[chosen], playing), playing ? 0 : 150);
  };
  const fill = () => {
    urls.forEach((url) => URL.revokeObjectURL(url));
    [hits, chosen, urls] = [model.get("hits"), -1, []];
    shown++;
    clearTimeout(timer);
    player.close();
    stage.hidden = true;
    if (!typing) query.value = model.get("query") || query.value;
    const items = hits.map((hit) => row(hit, true));
    items.forEach((item, i) => item.addEventListener("click", () => { list.focus({ preventScroll: true }); choose(i, true); }));
    list.replaceChildren();
    for (const item of items) list.appendChild(item);
    illustrate(items);
  };
  const search = async () => {
    if (!query.value.trim()) return say("Type a few words first: what is done, with what.", true);
    say(`searching ${model.get("videos")} videos…`);
    const mine = ++searches;
    typing = false;
    try {
      const { notes } = await ask("search", { text: query.value, files: files.value, least: least.value === "" ? 0 : Number(least.value) / 100 });
      if (mine !== searches) return;
      const n = model.get("hits").length, asked = `for “${model.get("query")}”`;
      const found = n ? `${n} ${n === 1 ? "moment" : "moments"} ${asked}; click one, or use the arrow keys and Enter` : `nothing found ${asked}: other words, or fewer filters`;
      say([found, ...notes].join("; "), notes.length > 0);
    } catch (error) {
      if (mine === searches) say(error.message, true);
    }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  query.addEventListener("input", () => (typing = true));
  save.addEventListener("click", async () => {
    try {
      const { name, buffer } = await ask("csv");
      const href = URL.createObjectURL(new Blob([buffer], { type: "text/csv" }));
      const link = root.appendChild(Object.assign(make("a", "file"), { href, download: name, hidden: true }));
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(href), 60000);
      say(`${hits.length} moments saved as ${name}, where this web browser puts its downloads`);
    } catch (error) {
      say(error.message, true);
    }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step) choose(chosen + step, false);
    else if (event.key === "Enter" || event.key === " ") choose(Math.max(0, chosen), true);
    else return;
    event.preventDefault();
  });
  query.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" || !hits.length) return;
    event.preventDefault();
    list.focus();
    choose(Math.max(0, chosen), false);
  });
  root.addEventListener("keydown", (event) => event.stopPropagation());
  model.on("change:hits", fill);
  fill();
  say(`${model.get("videos")} videos are ready to be searched`);
  return () => {
    model.off("change:hits", fill);
    stop();
    player.close();
    clearTimeout(timer);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
