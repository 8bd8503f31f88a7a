// The page of PointMap, after page.js. Titles and names come from files: they are set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg", WIDE = 640, HIGH = 420, LEFT = 34, BELOW = 34, NEAR = 14, WAIT = 60; // pixels, ms
const SHAPES = [ // matplotlib's o s ^ D v P X
  "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", "M-4-4H4V4H-4z", "M0-5L5 4H-5z", "M0-5.5L5.5 0 0 5.5-5.5 0z", "M0 5L5-4H-5z",
  "M-1.8-5H1.8V-1.8H5V1.8H1.8V5H-1.8V1.8H-5V-1.8H-1.8z", "M-3-5L0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0-5-3z",
];
const GREY = "#bbbbbb";

function draw(tag, parent, values, text = "") {
  const element = parent.appendChild(document.createElementNS(SVG, tag));
  Object.entries(values).forEach(([key, value]) => element.setAttribute(key, value));
  element.textContent = text;
  return element;
}

// from values to pixels, with room at both ends
function scale(values, from, to) {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return (value) => from + (to - from) * (0.04 + (0.92 * (value - low)) / (high - low || 1));
}

function render({ model, el }) {
  const { points, groups, labels, titles } = model.get("content");
  const root = el.appendChild(make("div", "browser")), shown = root.appendChild(make("div", "map"));
  const plot = shown.appendChild(make("div", "map-plot")), tip = plot.appendChild(make("div", "map-tip"));
  const svg = draw("svg", plot, { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "group", "aria-label": `map of ${points.length} points`, tabindex: 0 });
  const status = root.appendChild(make("div", "status", "Point at a mark to see it, click to open it; or use the arrow keys and Enter.", { role: "status" }));
  const say = (text, wrong) => {
    status.textContent = text;
    status.classList.toggle("vclip-wrong", wrong);
  };
  const { ask, stop } = asker(model, (late) => late && say(LATE, true));
  draw("rect", svg, { x: LEFT, y: 1, width: WIDE - LEFT - 1, height: HIGH - BELOW - 1, class: "vclip-map-frame" });
  draw("text", svg, { x: (LEFT + WIDE) / 2, y: HIGH - 12, class: "vclip-map-label" }, labels[0]);
  draw("text", svg, { transform: `translate(18 ${(HIGH - BELOW) / 2}) rotate(-90)`, class: "vclip-map-label" }, labels[1]);
  const x = scale(points.map((point) => point[0]), LEFT, WIDE), y = scale(points.map((point) => point[1]), HIGH - BELOW, 0);
  const spots = points.map(([a, b]) => [x(a), y(b)]);
  const style = (group) => ({ d: SHAPES[Math.max(group, 0) % SHAPES.length], fill: group < 0 ? GREY : groups[group][1] });
  const marks = spots.map(([a, b]) => draw("path", svg, { transform: `translate(${a} ${b})` }));
  points.forEach(([, , group], i) => {
    Object.entries({ ...style(group), class: "vclip-map-point" }).forEach(([key, value]) => marks[i].setAttribute(key, value));
    if (group >= 0) svg.append(marks[i]); // above the grey ones
  });
  const legend = shown.appendChild(make("div", "map-legend"));
  groups.concat(groups.length && points.some(([, , group]) => group < 0) ? [["others", GREY]] : []).forEach(([name], number) => {
    const entry = legend.appendChild(make("div", "map-entry"));
    draw("path", draw("svg", entry, { viewBox: "-7 -7 14 14", width: 14, height: 14 }), style(number < groups.length ? number : -1));
    entry.append(make("span", "map-name", name));
  });

  const urls = new Map(); // point -> promise of its picture's address, "" if it has none
  const picture = (i) => {
    if (!urls.has(i)) {
      urls.set(i, ask("picture", { i }).then(({ buffer }) => (buffer ? urlOf(buffer, "image/jpeg") : "")));
      urls.get(i).catch(() => urls.delete(i));
    }
    return urls.get(i);
  };
  let at = -1, timer = 0;
  const show = (i, wait = WAIT) => {
    if (i === at) return;
    marks[at]?.classList.remove("vclip-map-here");
    clearTimeout(timer);
    at = i;
    tip.hidden = i < 0;
    svg.style.cursor = i < 0 ? "" : "pointer";
    if (i < 0) return;
    marks[i].classList.add("vclip-map-here");
    const [a, b] = [spots[i][0] / WIDE, spots[i][1] / HIGH], group = points[i][2];
    tip.replaceChildren(make("div", "map-title", titles[i]), make("div", "map-group", group < 0 ? "" : groups[group][0]));
    // towards the middle, so that no edge cuts it
    Object.assign(tip.style, { left: `${100 * a}%`, top: `${100 * b}%`, transform: `translate(${a > 0.5 ? "calc(-100% - 10px)" : "10px"}, ${b > 0.5 ? "-100%" : "0"})` });
    timer = setTimeout(async () => {
      try {
        const url = await picture(i);
        if (url && at === i) tip.prepend(make("img", "map-picture", "", { src: url, alt: "" }));
      } catch (error) {
        say(error.message, true);
      }
    }, wait);
  };
  const open = async () => {
    if (at < 0) return;
    say(`Opening ${titles[at]} …`, false);
    const title = titles[at];
    try {
      await ask("open", { i: at });
      say(`Below: ${title}`, false);
    } catch (error) {
      say(error.message, true);
    }
  };
  const nearest = (a, b) => spots.reduce((best, [c, d], i) => {
    const far = Math.hypot(a - c, b - d);
    return far < best[0] ? [far, i] : best;
  }, [Infinity, -1]);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), ratio = WIDE / box.width;
    const [far, i] = nearest((event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio);
    show(far <= NEAR * ratio ? i : -1);
  });
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("click", open);
  const order = spots.map((_, i) => i).sort((i, j) => spots[i][0] - spots[j][0]); // from left to right
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) show(order[(order.indexOf(at) + step + order.length) % order.length]);
    else if (event.key === "Enter") open();
    else return;
    event.stopPropagation();
    event.preventDefault();
  });
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the arrow keys
  tip.hidden = true;
  return () => {
    clearTimeout(timer);
    stop();
    urls.forEach((url) => url.then((address) => URL.revokeObjectURL(address), () => {}));
  };
}

export default { render };
