// The page of Scrubber: rows of one time axis under a player, or under a large picture where there is no video.
const ROW = { pictures: 54, curves: 110, band: 22, caption: 18 }; // pixels
const WIDTH = 840, LETTER = 7; // pixels, about: of the rows, and of a letter of a caption

function lanesOf(spans) { // the first free lane for each span
  const busy = [];
  return spans.map(([start, end]) => {
    let lane = busy.findIndex((until) => until <= start);
    if (lane < 0) lane = busy.length;
    busy[lane] = end;
    return lane;
  });
}

// Of a line: a dark one would not be seen in a dark theme.
const lineColour = (colour) => `light-dark(${colour}, color-mix(in srgb, ${colour} 45%, white))`;

// Of words on a colour.
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => (parseInt(colour.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

// Draws the curves; gives the scores to be named and their heights.
function drawCurves(row, { curves, colours, seconds, threshold }) {
  const svg = addPicture(row, ROW.curves), all = curves.map(([, scores]) => scores).concat(threshold === null ? [] : [[threshold]]);
  const { low, high, y, across, line } = makeScales(seconds, all, ROW.curves);
  addShape(svg, "line", "scrub-zero", across(0));
  if (threshold !== null) addShape(svg, "line", "scrub-threshold", across(threshold));
  curves.forEach(([name, scores]) => { addShape(svg, "path", "scrub-scores", { d: line(scores) }).style.stroke = lineColour(colours[name]); });
  return [...new Set([high, 0, low])].map((value) => [value, y(value)]);
}

// The rows; returns `said(second)`, what they hold at a second.
function fillRows(rows, content, picture) {
  const { seconds, times, curves, bands, colours } = content, captions = content.captions.filter(([start]) => start < seconds);
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
    drawCurves(row, content).forEach(([value, y]) => {
      row.appendChild(make("div", "scrub-value", number(value))).style.top = `${Math.max(0, Math.min(y - 8, ROW.curves - 16))}px`;
    });
  }
  bands.forEach(([name, spans]) => {
    const row = part("scrub-band", ROW.band);
    spans.forEach(([text, start, end]) => {
      const span = row.appendChild(place(make("div", "scrub-span", text, { title: `${text}, ${clock(start)} – ${clock(end)}` }), start, end));
      Object.assign(span.style, { background: colours[text], color: inkOn(colours[text]) });
    });
    row.append(make("div", "scrub-name", name, { title: name }));
  });
  const drawn = captions.map(([start, end, text]) => { // from its start on, or up to the end of the axis
    const wide = (seconds * LETTER * text.length) / WIDTH, until = Math.max(end, start + wide);
    return until > seconds ? [Math.max(0, Math.min(start, seconds - wide)), seconds] : [start, until];
  });
  const lanes = lanesOf(drawn);
  if (captions.length) {
    const row = part("scrub-captions", ROW.caption * (Math.max(...lanes) + 1));
    captions.forEach(([start, end, text], i) => {
      const [from, until] = drawn[i], length = Math.min(end, seconds) - start;
      const said = row.appendChild(place(make("div", "scrub-caption", text, { title: text }), from, until));
      said.classList.toggle("vclip-scrub-late", from < start);
      said.style.backgroundSize = `${(100 * length) / (until - from)}% 100%`;
      said.style.backgroundPosition = `${(100 * (start - from)) / (until - from - length || 1)}% 0`;
      said.style.top = `${ROW.caption * lanes[i]}px`;
    });
  }
  const within = (time) => ([start, end]) => start <= time && time < end;
  return (time) => [
    ...curves.map(([name, scores]) => `${name} ${number(scores[Math.min(Math.floor(time), scores.length - 1)])}`),
    ...bands.map(([name, spans]) => `${name}: ${spans.find(([, ...span]) => within(time)(span))?.[0] ?? "Outside"}`),
    ...captions.filter(within(time)).map(([, , text]) => `“${text}”`),
  ];
}

function render({ model, el }) {
  const content = model.get("content"), { seconds, times, curves, size: [width, height] } = content;
  const { root, status, say } = makePage(el);
  root.classList.add("vclip-scrubber");
  const strip = urlOf(model.get("strip"), "image/jpeg");
  // picture i of the strip, `tall` pixels high
  const picture = (element, i, tall) => {
    const scale = tall / height;
    element.style.background = `url(${strip}) -${i * width * scale}px 0 / auto ${tall}px no-repeat`;
    return width * scale;
  };
  const { ask, stop } = asker(model, (late) => late && say(LATE, true));
  const player = makePlayer((hit, start, end, codecs) => ask("clip", { start, end, codecs }), (time) => at(time, true), say);
  const large = make("div", "scrub-large"), stage = make("div", "stage");
  const rows = make("div", "scrub-rows", "", { tabindex: 0, role: "slider", "aria-label": "second of the video", "aria-valuemin": 0, "aria-valuemax": Math.floor(seconds) });
  stage.append(player.box, large);
  const legend = make("div", "scrub-legend");
  legend.append(...curves.map(([name]) => {
    const entry = make("span", "scrub-entry", name);
    entry.style.borderColor = lineColour(content.colours[name]);
    return entry;
  }));
  root.classList.toggle("vclip-scrub-named", content.bands.length > 0);
  root.append(...(content.video || times.length ? [stage] : []), legend, rows, status);
  const values = fillRows(rows, content, picture);
  const head = rows.appendChild(make("div", "scrub-playhead"));
  fillAxis(root.insertBefore(make("div", "axis"), status), seconds);

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
  const second = (event) => secondAt(event, rows, seconds - 0.001);
  let dragged = false;
  rows.addEventListener("pointerdown", (event) => {
    dragged = false;
    rows.setPointerCapture(event.pointerId);
    player.pause();
    at(second(event));
  });
  rows.addEventListener("pointermove", (event) => {
    if (event.buttons) [dragged] = [true, at(second(event))];
    else rows.title = [clock(Math.floor(second(event))), ...values(second(event))].join("\n");
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
