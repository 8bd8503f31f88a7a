// Scores of a video's seconds as step lines over an axis of time, and what all pictures of scores share.
const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000; // of every picture, in its own units: the page stretches it
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000]; // seconds between ticks
const TICKS = 8; // at most

function clock(seconds) {
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

const number = (x) => x.toFixed(2).replace("-", "−");
const put = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));

function addPicture(parent, height, values = {}) {
  const svg = parent.appendChild(document.createElementNS(SVG, "svg"));
  put(svg, { viewBox: `0 0 ${WIDE} ${height}`, preserveAspectRatio: "none", ...values });
  return svg;
}

function addShape(svg, tag, name, values = {}) {
  const element = svg.appendChild(document.createElementNS(SVG, tag));
  put(element, { class: `vclip-${name}`, "vector-effect": "non-scaling-stroke", ...values });
  return element;
}

// Where seconds and scores lie in a picture, and the line of some scores. Zero is always in sight.
function makeScales(seconds, curves, height) {
  // a spread into Math.min fails on very long videos
  const extreme = (pick) => curves.reduce((so, scores) => scores.reduce((a, b) => pick(a, b), so), 0);
  const low = extreme(Math.min), high = extreme(Math.max);
  const x = (second) => (WIDE * second) / seconds;
  const y = (score) => height * (0.95 - (0.9 * (score - low)) / (high - low || 1));
  const across = (score) => ({ x1: 0, x2: WIDE, y1: y(score), y2: y(score) });
  const line = (scores) => scores.map((score, s) => `${s ? "L" : "M"}${x(s)} ${y(score)}H${x(s + 1)}`).join("");
  return { low, high, x, y, across, line };
}

// The second of a video under the pointer.
function secondAt(event, element, seconds) {
  const place = element.getBoundingClientRect();
  return Math.max(0, Math.min(seconds, ((event.clientX - place.left) / place.width) * seconds));
}

function fillAxis(axis, seconds) {
  const step = STEPS.find((n) => seconds / n <= TICKS) ?? STEPS.at(-1);
  const ticks = [...Array(Math.floor(seconds / step) + 1).keys()].map((i) => i * step);
  axis.replaceChildren(...ticks.filter((tick) => tick < 0.96 * seconds).map((tick) => { // later ones would be cut
    const mark = make("div", "tick", clock(tick));
    mark.style.left = `${(100 * tick) / seconds}%`;
    return mark;
  }));
}

// One sentence's curve or two; the hit shaded, the place of the player marked. A click seeks; the pointer shows the
// second and its scores.
function makeCurve(seek) {
  const inside = (parent, name, text = "") => parent.appendChild(make("div", name, text));
  const box = make("div", "curve"), plot = inside(box, "plot"), axis = inside(box, "axis"), legend = inside(box, "legend");
  const svg = addPicture(plot, 100, { role: "img", "aria-label": "score of every second; click to play from there" });
  const [moment, zero, pointer] = ["moment", "zero", "pointer"].map((name) => addShape(svg, name === "moment" ? "rect" : "line", name));
  const lines = [addShape(svg, "path", "line"), addShape(svg, "path", "line vclip-other")], head = addShape(svg, "line", "head");
  const top = inside(plot, "high"), bottom = inside(plot, "low"), nought = inside(plot, "nought", "0"), tip = inside(plot, "tip");
  let length = 1, curves = [null, null]; // of each sentence {scores, name}

  const x = (second) => (WIDE * second) / length;
  const vertical = (line, second) => put(line, { x1: x(second), x2: x(second), y1: 0, y2: 100 });
  const at = (time) => vertical(head, time);
  const label = (text) => legend.replaceChildren(make("div", "entry", text));
  const leave = () => {
    tip.hidden = true;
    put(pointer, { x1: -1, x2: -1 });
  };
  const paint = () => {
    const drawn = curves.filter(Boolean);
    const { low, high, y, across, line } = makeScales(length, drawn.map(({ scores }) => scores), 100);
    lines.forEach((path, i) => path.setAttribute("d", curves[i] ? line(curves[i].scores) : ""));
    put(zero, drawn.length ? across(0) : { x1: -1, x2: -1 });
    top.textContent = drawn.length && high > 0 ? number(high) : "";
    bottom.textContent = drawn.length && low < 0 ? number(low) : "";
    nought.style.top = `${y(0)}%`;
    nought.hidden = !drawn.length;
    legend.replaceChildren(...curves.map((curve, i) => curve && make("div", `entry vclip-entry-${i}`, curve.name)).filter(Boolean));
  };
  // A video of `seconds` with a hit in it. A click seeks already; the scores come later.
  const open = (seconds, start, end) => {
    [length, curves] = [Math.max(1, seconds), [null, null]];
    svg.dataset.seconds = length;
    paint();
    put(moment, { x: x(start), width: x(end - start), y: 0, height: 100 });
    at(start);
    leave();
    label("scoring every second…");
    fillAxis(axis, length);
  };
  const draw = (scores, name = "", which = 0) => {
    curves[which] = scores && { scores, name };
    paint();
  };
  svg.addEventListener("click", (event) => seek(secondAt(event, svg, length)));
  svg.addEventListener("mousemove", (event) => {
    const s = Math.min(Math.floor(secondAt(event, svg, length)), length - 1), shown = curves.filter((curve) => curve?.scores[s] !== undefined);
    if (!shown.length) return;
    vertical(pointer, s + 0.5);
    tip.hidden = false;
    tip.textContent = [clock(s), ...shown.map(({ scores }) => number(scores[s]))].join(" · ");
    Object.assign(tip.style, s < length / 2 ? { left: `${x(s + 1) / 10}%`, right: "" } : { left: "", right: `${100 - x(s) / 10}%` });
  });
  svg.addEventListener("mouseleave", leave);
  return { box, open, draw, at, label };
}
