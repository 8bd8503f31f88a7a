// The page of Scrubber: rows of one time axis under a player, or under a large picture where there is no video.
const ROW = { pictures: 54, curves: 110, band: 22, caption: 18 }; // pixels
const WIDTH = 960, LETTER = 7; // pixels, about: of the rows, and of a letter of a caption

function lanesOf(spans) { // the first free lane for each span
  const busy = [];
  return spans.map(([start, end]) => {
    let lane = busy.findIndex((until) => until <= start);
    if (lane < 0) lane = busy.length;
    busy[lane] = end;
    return lane;
  });
}

function makeScale(low, high, height) {
  const [bottom, top] = [Math.min(low, 0), Math.max(high, 0)]; // zero is always in view
  return (value) => height - 4 - ((height - 8) * (value - bottom)) / (top - bottom || 1);
}

function drawCurves(svg, { curves, seconds, threshold }) {
  const all = curves.flatMap(({ scores }) => scores).concat(threshold ?? []);
  const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
  const y = makeScale(low, high, ROW.curves);
  const add = (tag, name, values) => {
    const element = svg.appendChild(document.createElementNS(SVG, tag));
    Object.entries({ class: `vclip-${name}`, "vector-effect": "non-scaling-stroke", ...values }).forEach(([k, v]) => element.setAttribute(k, v));
  };
  svg.setAttribute("viewBox", `0 0 ${seconds} ${ROW.curves}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const across = (value) => ({ x1: 0, x2: seconds, y1: y(value), y2: y(value) });
  add("line", "scrub-zero", across(0));
  if (threshold !== null) add("line", "scrub-threshold", across(threshold));
  curves.forEach(({ scores, colour }) => {
    const path = scores.map((score, i) => `${i ? "L" : "M"}${i} ${y(score)}H${i + 1}`).join("");
    add("path", "scrub-scores", { d: path, stroke: colour });
  });
  return [...new Set([high, 0])].map((value) => [value, y(value)]);
}

// The rows; returns `said(second)`, what they hold at a second.
function fillRows(rows, content, picture) {
  const { seconds, times, curves, bands, captions } = content;
  const part = (name, height) => Object.assign(rows.appendChild(make("div", name)), { style: `height: ${height}px` });
  const place = (element, start, end) => {
    element.style.left = `${(100 * start) / seconds}%`;
    element.style.width = `${(100 * (Math.min(end, seconds) - start)) / seconds}%`;
    return element;
  };
  let free = 0;
  const frames = times.length ? part("scrub-frames", ROW.pictures) : null;
  times.forEach((time, i) => {
    if (time < free) return; // no room
    const tile = frames.appendChild(place(make("div", "scrub-tile"), time, seconds));
    const width = picture(tile, i, ROW.pictures);
    tile.style.width = `${width}px`;
    free = time + (seconds * width) / WIDTH;
  });
  if (curves.length) {
    const row = part("scrub-curves", ROW.curves);
    drawCurves(row.appendChild(document.createElementNS(SVG, "svg")), content).forEach(([value, y]) => {
      row.appendChild(make("div", "scrub-value", number(value))).style.top = `${Math.max(0, Math.min(y - 8, ROW.curves - 16))}px`;
    });
  }
  bands.forEach(({ name, spans }) => {
    const row = part("scrub-band", ROW.band);
    spans.forEach(([text, start, end, colour]) => {
      const span = row.appendChild(place(make("div", "scrub-span", text, { title: `${text}, ${clock(start)} – ${clock(end)}` }), start, end));
      span.style.background = colour;
    });
    row.append(make("div", "scrub-name", name));
  });
  const drawn = captions.map(([start, end, text]) => [start, Math.max(end, start + (seconds * LETTER * text.length) / WIDTH)]);
  const lanes = lanesOf(drawn);
  if (captions.length) {
    const row = part("scrub-captions", ROW.caption * (Math.max(...lanes) + 1));
    captions.forEach(([start, end, text], i) => {
      const said = row.appendChild(place(make("div", "scrub-caption", text, { title: text }), start, drawn[i][1]));
      said.style.backgroundSize = `${(100 * (end - start)) / (drawn[i][1] - start)}% 100%`;
      said.style.top = `${ROW.caption * lanes[i]}px`;
    });
  }
  const within = (time) => ([start, end]) => start <= time && time < end;
  return (time) => [
    ...curves.map(({ name, scores }) => `${name} ${number(scores[Math.min(Math.floor(time), scores.length - 1)])}`),
    ...bands.map(({ name, spans }) => `${name}: ${spans.find(([, ...span]) => within(time)(span))?.[0] ?? "Outside"}`),
    ...captions.filter(within(time)).map(([, , text]) => `“${text}”`),
  ];
}

function render({ model, el }) {
  const content = model.get("content"), { seconds, times, curves, size: [width, height] } = content;
  const root = el.appendChild(make("div", "browser", "", { "data-lm-suppress-shortcuts": "true" })); // or JupyterLab takes the arrow keys
  root.classList.add("vclip-scrubber");
  const strip = urlOf(model.get("strip"), "image/jpeg");
  // picture i of the strip, `tall` pixels high
  const picture = (element, i, tall) => {
    const scale = tall / height;
    element.style.background = `url(${strip}) -${i * width * scale}px 0 / auto ${tall}px no-repeat`;
    return width * scale;
  };
  const status = make("div", "status", "", { role: "status" });
  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("vclip-wrong", wrong);
  };
  const { ask, stop } = asker(model, (late) => late && say(LATE, true));
  const player = makePlayer((hit, start, end, codecs) => ask("clip", { start, end, codecs }), (time) => at(time, true), say);
  const large = make("div", "scrub-large"), stage = make("div", "stage");
  const rows = make("div", "scrub-rows", "", { tabindex: 0, role: "slider", "aria-label": "second of the video", "aria-valuemin": 0, "aria-valuemax": Math.floor(seconds) });
  stage.append(player.box, large);
  const legend = make("div", "scrub-legend");
  legend.append(...curves.map(({ name, colour }) => {
    const entry = make("span", "scrub-entry", name);
    entry.style.borderColor = colour;
    return entry;
  }));
  root.append(stage, legend, rows, status);
  const values = fillRows(rows, content, picture);
  const head = rows.appendChild(make("div", "scrub-playhead"));
  const axis = root.insertBefore(make("div", "scrub-axis"), status);
  axis.append(...[0, 0.25, 0.5, 0.75, 1].map((share) => make("span", "scrub-tick", clock(share * seconds))));

  let now = 0;
  const at = (time, playing = false) => {
    now = Math.max(0, Math.min(time, seconds - 0.001));
    head.style.left = `${(100 * now) / seconds}%`;
    rows.setAttribute("aria-valuenow", Math.floor(now));
    rows.setAttribute("aria-valuetext", clock(Math.floor(now)));
    say([clock(Math.floor(now)), ...values(now)].join(" · "));
    if (playing) return;
    const i = times.findLastIndex((start) => start <= now);
    large.hidden = i < 0;
    player.box.hidden = !large.hidden;
    if (i >= 0) large.style.width = `${picture(large, i, 200)}px`;
  };
  const play = (time) => {
    at(time, content.video);
    if (!content.video) return;
    large.hidden = true;
    player.box.hidden = false;
    player.seek(now);
  };
  const second = (event) => {
    const box = rows.getBoundingClientRect();
    return (seconds * (event.clientX - box.left)) / box.width;
  };
  let dragged = false;
  rows.addEventListener("pointerdown", (event) => {
    dragged = false;
    rows.setPointerCapture(event.pointerId);
    player.pause();
    at(second(event));
  });
  rows.addEventListener("pointermove", (event) => {
    if (event.buttons) [dragged] = [true, at(second(event))];
    else rows.title = [clock(Math.floor(second(event))), ...values(Math.max(0, Math.min(second(event), seconds - 0.001)))].join("\n");
  });
  rows.addEventListener("pointerup", (event) => dragged || play(second(event)));
  rows.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) {
      player.pause();
      at(Math.floor(now) + step);
    }
    else if (event.key === "Enter" || event.key === " ") play(now);
    else return;
    event.stopPropagation();
    event.preventDefault();
  });
  player.set({ seconds, video: content.video });
  at(0);
  if (content.start !== null) play(content.start);
  return () => {
    stop();
    player.close();
    URL.revokeObjectURL(strip);
  };
}

export default { render };
