// The score of every second as a step line, the hit shaded, the place of the player marked. A click seeks.
const SVG = "http://www.w3.org/2000/svg";

function clock(seconds) {
  const s = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

const number = (x) => x.toFixed(2).replace("-", "−");

function makeCurve(seek) {
  const box = document.createElement("div"), svg = box.appendChild(document.createElementNS(SVG, "svg"));
  box.className = "vclip-curve";
  const set = (element, values) => Object.entries(values).forEach(([name, value]) => element.setAttribute(name, value));
  set(svg, { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": "score of every second; click to play from there" });
  const shape = (tag, name) => {
    const element = svg.appendChild(document.createElementNS(SVG, tag));
    set(element, { class: `vclip-${name}`, "vector-effect": "non-scaling-stroke" });
    return element;
  };
  const moment = shape("rect", "moment"), line = shape("path", "line"), head = shape("line", "head");
  const axis = box.appendChild(document.createElement("div"));
  axis.className = "vclip-axis";
  let length = 0, scores = [];

  const x = (second) => (1000 * second) / Math.max(1, length);
  const second = (event) => {
    const place = svg.getBoundingClientRect();
    return ((event.clientX - place.left) / place.width) * length;
  };
  const at = (time) => set(head, { x1: x(time), x2: x(time), y1: 0, y2: 100 });
  const label = (text) => {
    const texts = ["0:00", text, clock(length)];
    axis.replaceChildren(...texts.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  };
  // A video of `seconds` with a hit in it. A click seeks already; the scores come later.
  const open = (seconds, start, end) => {
    [length, scores] = [seconds, []];
    line.setAttribute("d", "");
    set(moment, { x: x(start), width: x(end - start), y: 0, height: 100 });
    at(start);
    label("scoring every second…");
  };
  const draw = (newScores) => {
    scores = newScores;
    // a spread into Math.min fails on very long videos
    const low = scores.reduce((a, b) => Math.min(a, b)), high = scores.reduce((a, b) => Math.max(a, b));
    const y = (score) => 95 - (90 * (score - low)) / (high - low || 1);
    line.setAttribute("d", scores.map((score, i) => `${i ? "L" : "M"}${x(i)} ${y(score)}H${x(i + 1)}`).join(""));
    label(`score of every second, ${number(low)} to ${number(high)}; click to play from there`);
  };
  svg.addEventListener("click", (event) => seek(second(event)));
  svg.addEventListener("mousemove", (event) => {
    const s = Math.floor(second(event));
    if (scores[s] !== undefined) box.title = `${clock(s)}: ${number(scores[s])}`;
  });
  return { box, open, draw, at, label };
}
