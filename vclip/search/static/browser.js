// The page of RetrievalBrowser.
const MARGIN = "margin: the score minus the best score in any other video";
const ZSCORE = "the score minus half of this sentence's mean score in these videos, in standard deviations above what 256 " +
  "everyday sentences reach: about 0 or less, it is not here, or the model does not know the words";
const WHY = "A hit's score is that of a whole window (z_v · z_t), the curve that of each second by itself (h_v · z_t): " +
  "they are different vectors, so the two are not on one scale.";
const FRAMES = 3; // of a hit, at equal steps

function makeField(form, name, placeholder, label) {
  return form.appendChild(make("input", name, "", { placeholder, title: label, "aria-label": label }));
}

function makeForm() {
  const form = make("form", "search");
  const query = makeField(form, "query", "Describe a moment, for example: pour coffee into a mug", "what to search for");
  form.append(make("button", "go", "Search"));
  return { form, query, files: makeField(form, "files", "only files named…", "part of a file's name") };
}

// `act` says what a click on the hit, on its button, and a tag do.
function makeRow(hit, act) {
  const item = make("li", "hit", "", { role: "option", "data-start": hit.start, "data-end": hit.end });
  const frames = item.appendChild(make("div", "frames"));
  for (let i = 0; i < FRAMES; i++) frames.append(make("img", "thumb", "", { alt: "" }));
  const words = item.appendChild(make("div", "words")), title = words.appendChild(make("div", "head-line"));
  title.append(make("span", "video", hit.video), make("span", "time", `${clock(hit.start)} – ${clock(hit.end)}`));
  const margin = hit.margin === null ? "" : ` · margin ${hit.margin < 0 ? "" : "+"}${number(hit.margin)}`;
  words.append(make("div", "score", `score ${number(hit.score)}${margin}`, { title: MARGIN }));
  words.append(make("div", "score", `z-score ${hit.zscore < 0 ? "" : "+"}${number(hit.zscore)}`, { title: ZSCORE }));
  if (hit.text) words.append(make("div", "said", hit.text));
  const more = make("div", "more"), like = make("button", "like", "More like this", { type: "button" });
  const tag = make("input", "tag", "", { placeholder: "tag…", title: "a note on this moment, kept in the hits that are saved", "aria-label": "tag" });
  tag.value = hit.tag;
  more.append(like, tag);
  words.append(more);
  item.addEventListener("click", act.chosen);
  more.addEventListener("click", (event) => event.stopPropagation());
  like.addEventListener("click", act.like);
  tag.addEventListener("change", () => act.tag(tag.value.trim()));
  return item;
}

// Pictures of the items that are in view, in turn: Python answers one question at a time, and a click must not wait for
// all. JupyterLab attaches the page after it was made, so an item is first seen then.
function makeIllustrator(ask) {
  let queue = [], busy = false;
  const work = async () => {
    if (busy) return;
    busy = true;
    while (queue.length) {
      const { hit, item } = queue.shift(), images = [...item.querySelectorAll("img")];
      for (const [i, image] of images.entries()) {
        try {
          const time = hit.start + ((i + 0.5) / FRAMES) * (hit.end - hit.start);
          const { buffer } = await ask("thumbnail", { key: hit.key, time });
          image.onload = () => URL.revokeObjectURL(image.src);
          image.src = urlOf(buffer, "image/jpeg");
        } catch (error) {
          images[0].parentNode.replaceChildren(make("div", "no-picture", error.message));
          break;
        }
      }
    }
    busy = false;
  };
  let hits = new Map();
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      queue.push({ hit: hits.get(target), item: target });
    }
    work();
  });
  const show = (items, newHits) => {
    seen.disconnect();
    [queue, hits] = [[], new Map(items.map((item, i) => [item, newHits[i]]))];
    items.forEach((item) => seen.observe(item));
  };
  return { show, stop: () => { queue = []; seen.disconnect(); } };
}

const duration = (s) => (s < 3600 ? `${Math.round(s / 60) || "<1"} min` : `${(s / 3600).toFixed(1)} h`);
const several = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

// What was searched, and what came of it.
function told(query, { videos, seconds, windows, liked }, n) {
  const asked = query.length > 80 ? `${query.slice(0, 80)}…` : query;
  if (!query) return `${several(videos, "video")} ${videos === 1 ? "is" : "are"} ready to be searched`;
  if (!videos) return "No video is named so: empty the second box to search all.";
  const sought = `${liked ? "like" : "for"} “${asked}”`;
  const where = `${several(windows, "window")} in ${several(videos, "video")} (${duration(seconds)})`;
  if (!n) return `Nothing found ${sought} in ${where}: try other words.`;
  return `${several(n, "moment")} ${sought}, the best of ${where}`;
}

function render({ model, el }) {
  const { root, status, say } = makePage(el), notes = make("div", "notes", "", { role: "status" });
  const note = (texts) => notes.replaceChildren(...texts.map((text) => make("div", "note", `Note: ${text}`)));
  const fail = (error) => say(error.message, true);
  const tell = () => say(told(model.get("query"), model.get("searched"), hits.length));
  const { ask, stop } = asker(model, (late) => (late ? say(LATE, true) : status.textContent === LATE && tell()));
  const { form, query, files } = makeForm();
  const list = make("ol", "hits", "", { tabindex: 0, role: "listbox", "aria-label": "moments found" });
  const main = make("div", "main"), stage = make("div", "stage"), title = make("div", "title");
  const fetchMoment = ({ key }, start, end, codecs) => ask("clip", { key, start, end, codecs });
  const player = makePlayer(fetchMoment, (time) => curve.at(time), say);
  const curve = makeCurve((second) => player.seek(second));
  const compare = make("form", "compare");
  const other = makeField(compare, "against", "compare with another sentence…", "a sentence whose curve is drawn over the first");
  stage.append(title, player.box, curve.box, compare, make("div", "why", WHY));
  main.append(list, stage);
  root.append(form, status, notes, main);

  let hits = [], chosen = -1, shown = 0, current = null;
  const pictures = makeIllustrator(ask);
  const explain = async (which) => {
    const mine = shown, text = which ? other.value.trim() : "";
    if (which && !text) return curve.draw(null, "", 1);
    const { scores, notes: warned } = await ask("explain", { key: current.key, text });
    if (mine !== shown) return;
    curve.draw(scores, text || model.get("query"), which);
    if (which) note(warned);
  };
  const show = async (hit) => {
    const mine = ++shown;
    current = hit;
    stage.hidden = false;
    root.classList.add("vclip-open");
    title.textContent = `${hit.video}, ${clock(hit.start)} – ${clock(hit.end)}`;
    curve.open(hit.seconds, hit.start, hit.end);
    await player.open(hit); // first: Python answers in turn, and scores may take long
    if (mine !== shown) return;
    try {
      await explain(0);
      await explain(1);
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
  const fill = () => {
    const { first, lengths, liked, notes: warned } = model.get("searched");
    const found = model.get("hits").map((hit, i) => ({ ...hit, key: first + i, seconds: lengths[i] }));
    if (hits.length && hits.length === found.length && hits[0].key === first) { // a tag was given, here or in another view
      found.forEach(({ tag }, i) => { list.children[i].querySelector(".vclip-tag").value = tag; });
      hits = found;
      return;
    }
    [hits, chosen] = [found, -1];
    shown++;
    player.pause();
    stage.hidden = true;
    root.classList.remove("vclip-open");
    if (!query.matches(":focus") && !liked) query.value = model.get("query") || query.value; // the reader may be typing
    const items = hits.map((hit, i) => makeRow(hit, {
      chosen: () => {
        list.focus({ preventScroll: true });
        choose(i);
        show(hits[i]);
      },
      like: () => search("like", { key: hit.key }),
      tag: (text) => ask("tag", { key: hit.key, text }).catch(fail),
    }));
    list.replaceChildren(...items);
    pictures.show(items, hits);
    note(warned ?? []);
    tell();
  };
  const search = async (action, values) => {
    say("searching…");
    note([]);
    try {
      note((await ask(action, { files: files.value, ...values })).notes);
      tell();
    } catch (error) {
      fail(error);
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (query.value.trim()) search("search", { text: query.value });
    else say("Type a few words first, for example an action and its object.", true);
  });
  compare.addEventListener("submit", (event) => {
    event.preventDefault();
    explain(1).then(tell, fail);
  });
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
  model.on("change:searched", fill);
  model.on("change:hits", fill);
  fill();
  return () => {
    model.off("change:searched", fill);
    model.off("change:hits", fill);
    stop();
    pictures.stop();
    player.close();
  };
}

export default { render };
