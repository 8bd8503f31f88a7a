// The page of RetrievalBrowser. Names, captions and errors come from files, so they are set as text, never as markup.
const PATIENCE = 20000; // ms without an answer before the reader is told
const LATE = "No answer from Python yet: it may be busy, or its kernel has stopped (run the cell again).";
const MARGIN = "margin: the score minus the best score in any other video";
const QUANTILE = "quantile, 0 to 1: the fraction of 256 everyday sentences whose best score in these videos is lower";

function make(tag, name, text = "", attributes = {}) {
  const element = Object.assign(document.createElement(tag), { className: `vclip-${name}`, textContent: text });
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}

const urlOf = (buffer, type) => URL.createObjectURL(new Blob([buffer], { type }));

// Questions to Python. Each has an id of its own, since all views of a widget hear every answer. late(true) is called
// when an answer takes long, late(false) at every answer.
function asker(model, late) {
  const open = new Map();
  const hear = ({ id, answer, error }, buffers) => {
    if (!open.has(id)) return;
    const { resolve, reject, timer } = open.get(id);
    open.delete(id);
    clearTimeout(timer);
    late(false);
    if (error === undefined) resolve({ ...answer, buffer: buffers?.[0] });
    else reject(new Error(error));
  };
  model.on("msg:custom", hear);
  const ask = (action, values = {}) => new Promise((resolve, reject) => {
    const id = String(Math.random());
    open.set(id, { resolve, reject, timer: setTimeout(late, PATIENCE, true) });
    model.send({ id, action, values });
  });
  return { ask, stop: () => model.off("msg:custom", hear) };
}

function makeForm() {
  const form = make("form", "search");
  const field = (name, placeholder, label, more = {}) =>
    form.appendChild(make("input", name, "", { placeholder, title: label, "aria-label": label, ...more }));
  const query = field("query", "Describe a moment, for example: pour coffee into a mug", "what to search for");
  form.append(make("button", "go", "Search"));
  const files = field("files", "only files named…", "part of a file's name");
  return { form, query, files };
}

function makeRow(hit, chosen) {
  const item = make("li", "hit", "", { role: "option", "data-start": hit.start, "data-end": hit.end });
  const margin = hit.margin === null ? "" : ` · margin ${hit.margin < 0 ? "" : "+"}${number(hit.margin)}`;
  const score = `score ${number(hit.score)}${margin} · quantile ${hit.quantile.toFixed(2)}`;
  const words = item.appendChild(make("div", "words"));
  words.append(make("div", "video", hit.video), make("div", "time", `${clock(hit.start)} – ${clock(hit.end)}`));
  words.append(make("div", "score", score, { title: `${MARGIN}; ${QUANTILE}` }));
  if (hit.text) words.append(make("div", "said", hit.text));
  item.addEventListener("click", chosen);
  return item;
}

function render({ model, el }) {
  const root = el.appendChild(make("div", "browser", "", { "data-lm-suppress-shortcuts": "true" })); // or JupyterLab takes the arrow keys
  const status = make("div", "status", "", { role: "status" });
  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("vclip-wrong", wrong);
  };
  const fail = (error) => say(error.message, true);
  const { ask, stop } = asker(model, (late) => (late ? say(LATE, true) : status.textContent === LATE && say("")));
  const { form, query, files } = makeForm();
  const list = make("ol", "hits", "", { tabindex: 0, role: "listbox", "aria-label": "moments found" });
  const main = make("div", "main"), stage = make("div", "stage"), title = make("div", "title");
  const player = makePlayer(({ key }, start, end) => ask("clip", { key, start, end }), (time) => curve.at(time), say);
  const curve = makeCurve(player.seek);
  stage.append(title, player.box, curve.box);
  main.append(list, stage);
  root.append(form, status, main);

  let hits = [], chosen = -1, shown = 0;
  const show = async (hit) => {
    const mine = ++shown;
    stage.hidden = false;
    title.textContent = `${hit.video}, ${clock(hit.start)} – ${clock(hit.end)}`;
    curve.open(hit.seconds, hit.start, hit.end);
    await player.open(hit); // first: Python answers in turn, and scores may take long
    if (mine !== shown) return;
    try {
      const { scores } = await ask("explain", { key: hit.key });
      if (mine === shown) curve.draw(scores);
    } catch (error) {
      if (mine !== shown) return;
      curve.label("no scores");
      fail(error);
    }
  };
  const choose = (i) => {
    chosen = Math.max(0, Math.min(i, hits.length - 1));
    [...list.children].forEach((item, j) => item.setAttribute("aria-selected", j === chosen));
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  };
  const illustrate = async (items) => { // in turn: Python answers one at a time, and a click must not wait for ten
    for (const [i, item] of items.entries()) {
      if (!item.isConnected) return;
      try {
        const { buffer } = await ask("thumbnail", { key: hits[i].key });
        item.firstChild.src = urlOf(buffer, "image/jpeg");
        item.firstChild.onload = ({ target }) => URL.revokeObjectURL(target.src);
      } catch (error) {
        item.firstChild.alt = error.message;
      }
    }
  };
  const fill = () => {
    [hits, chosen] = [model.get("hits"), -1];
    shown++;
    player.close();
    stage.hidden = true;
    if (!query.matches(":focus")) query.value = model.get("query") || query.value; // the reader may be typing
    const items = hits.map((hit, i) => makeRow(hit, () => {
      list.focus({ preventScroll: true });
      choose(i);
      show(hit);
    }));
    items.forEach((item) => item.prepend(make("img", "thumb", "", { alt: "" })));
    list.replaceChildren(...items);
    illustrate(items);
  };
  const search = async () => {
    if (!query.value.trim()) return say("Type a few words first, for example an action and its object.", true);
    say(`searching ${model.get("videos")} videos…`);
    await ask("search", { text: query.value, files: files.value });
    const n = hits.length, asked = `for “${model.get("query")}”`;
    if (!n) return say(`nothing found ${asked}: try other words or fewer filters`);
    say(`${n} ${n === 1 ? "moment" : "moments"} ${asked}; click one, or use the arrow keys and Enter`);
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); search().catch(fail); });
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key], inList = event.target === list;
    if (inList && step) choose(chosen + step);
    else if (inList && event.key === "Enter" && chosen >= 0) show(hits[chosen]);
    else if (event.target === query && event.key === "ArrowDown" && hits.length) {
      list.focus();
      choose(Math.max(0, chosen));
    } else return;
    event.preventDefault();
  });
  model.on("change:hits", fill);
  fill();
  say(`${model.get("videos")} videos are ready to be searched`);
  return () => {
    model.off("change:hits", fill);
    stop();
    player.close();
  };
}

export default { render };
