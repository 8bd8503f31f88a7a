// The score of every second as a step line, for one sentence or two; the hit shaded, the place of the player marked.
// A click seeks; the pointer shows the second and its scores.
const SVG = "http://www.w3.org/2000/svg";
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000]; // seconds between ticks
const TICKS = 8; // at most

function clock(seconds) {
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

const number = (x) => x.toFixed(2).replace("-", "−");

function makeCurve(seek) {
  const plain = (name, text = "", parent = null) => {
    const element = Object.assign(document.createElement("div"), { className: `vclip-${name}`, textContent: text });
    parent?.append(element);
    return element;
  };
  const set = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));
  const box = plain("curve"), plot = plain("plot", "", box), axis = plain("axis", "", box), legend = plain("legend", "", box);
  const svg = plot.appendChild(document.createElementNS(SVG, "svg"));
  set(svg, { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": "score of every second; click to play from there" });
  const shape = (tag, name) => {
    const element = svg.appendChild(document.createElementNS(SVG, tag));
    set(element, { class: `vclip-${name}`, "vector-effect": "non-scaling-stroke" });
    return element;
  };
  const moment = shape("rect", "moment"), zero = shape("line", "zero"), pointer = shape("line", "pointer");
  const lines = [shape("path", "line"), shape("path", "line vclip-other")], head = shape("line", "head");
  const top = plain("high", "", plot), bottom = plain("low", "", plot), nought = plain("nought", "0", plot), tip = plain("tip", "", plot);
  let length = 1, curves = [null, null]; // of each sentence {scores, name}

  const x = (second) => (1000 * second) / length;
  const vertical = (line, second) => set(line, { x1: x(second), x2: x(second), y1: 0, y2: 100 });
  const at = (time) => vertical(head, time);
  const label = (text) => legend.replaceChildren(plain("entry", text));
  const second = (event) => {
    const place = svg.getBoundingClientRect();
    return Math.max(0, Math.min(length, ((event.clientX - place.left) / place.width) * length));
  };
  const leave = () => {
    tip.hidden = true;
    set(pointer, { x1: -1, x2: -1 });
  };
  const paint = () => {
    const drawn = curves.filter(Boolean);
    // zero is always in sight; a spread into Math.min fails on very long videos
    const extreme = (pick) => drawn.reduce((so, { scores }) => scores.reduce((a, b) => pick(a, b), so), 0);
    const low = extreme(Math.min), high = extreme(Math.max);
    const y = (score) => 95 - (90 * (score - low)) / (high - low || 1);
    lines.forEach((line, i) => line.setAttribute("d", !curves[i] ? "" :
      curves[i].scores.map((score, s) => `${s ? "L" : "M"}${x(s)} ${y(score)}H${x(s + 1)}`).join("")));
    set(zero, drawn.length ? { x1: 0, x2: 1000, y1: y(0), y2: y(0) } : { x1: -1, x2: -1 });
    top.textContent = drawn.length && high > 0 ? number(high) : "";
    bottom.textContent = drawn.length && low < 0 ? number(low) : "";
    nought.style.top = `${y(0)}%`;
    nought.hidden = !drawn.length;
    legend.replaceChildren(...curves.map((curve, i) => curve && plain(`entry vclip-entry-${i}`, curve.name)).filter(Boolean));
  };
  // A video of `seconds` with a hit in it. A click seeks already; the scores come later.
  const open = (seconds, start, end) => {
    [length, curves] = [Math.max(1, seconds), [null, null]];
    svg.dataset.seconds = length;
    paint();
    set(moment, { x: x(start), width: x(end - start), y: 0, height: 100 });
    at(start);
    leave();
    label("scoring every second…");
    const step = STEPS.find((n) => length / n <= TICKS) ?? STEPS.at(-1);
    const ticks = [...Array(Math.floor(length / step) + 1).keys()].map((i) => i * step);
    axis.replaceChildren(...ticks.map((tick) => {
      const mark = plain("tick", clock(tick));
      mark.style.left = `${x(tick) / 10}%`;
      return mark;
    }));
  };
  const draw = (scores, name = "", which = 0) => {
    curves[which] = scores && { scores, name };
    paint();
  };
  svg.addEventListener("click", (event) => seek(second(event)));
  svg.addEventListener("mousemove", (event) => {
    const s = Math.min(Math.floor(second(event)), length - 1), shown = curves.filter((curve) => curve?.scores[s] !== undefined);
    if (!shown.length) return;
    vertical(pointer, s + 0.5);
    tip.hidden = false;
    tip.textContent = [clock(s), ...shown.map(({ scores }) => number(scores[s]))].join(" · ");
    Object.assign(tip.style, s < length / 2 ? { left: `${x(s + 1) / 10}%`, right: "" } : { left: "", right: `${100 - x(s) / 10}%` });
  });
  svg.addEventListener("mouseleave", leave);
  return { box, open, draw, at, label };
}
