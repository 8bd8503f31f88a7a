// What every page shares. Names, captions and errors come from files, so they are set as text, never as markup.
const PATIENCE = 20000; // ms without an answer before the reader is told
const LATE = "No answer from Python yet: it may be busy, or its kernel has stopped (run the cell again).";

function make(tag, name, text = "", attributes = {}) {
  const element = Object.assign(document.createElement(tag), { className: `vclip-${name}`, textContent: text });
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
}

// A widget's page, and its line of news: say(text, wrong).
function makePage(el) {
  const root = el.appendChild(make("div", "browser", "", { "data-lm-suppress-shortcuts": "true" })); // or JupyterLab takes the arrow keys
  const status = make("div", "status", "", { role: "status" });
  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("vclip-wrong", wrong);
  };
  return { root, status, say };
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
