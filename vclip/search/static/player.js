// A <video> on the whole video's timeline that fetches short pieces, [n * SECONDS, (n + 1) * SECONDS), when they are
// needed. fetchPiece(key, n) -> Promise of {type, buffer}. `say` shows what went wrong. All times are seconds.
const SECONDS = 4;

function makePlayer(fetchPiece, say) {
  const box = document.createElement("div"), video = box.appendChild(document.createElement("video"));
  box.className = "vclip-player";
  video.controls = true;
  const wait = box.appendChild(Object.assign(document.createElement("div"), { className: "vclip-wait", textContent: "fetching the picture…", hidden: true }));
  let source = null, buffer = null, asked = new Set(), waiting = [], key = null, duration = 0, stopAt = null, place = 0;
  let settled = () => {}; // called when the first piece is there, or will not come

  const holds = (time) => {
    for (let i = 0; buffer && i < video.buffered.length; i++)
      if (video.buffered.start(i) <= time + 0.1 && time < video.buffered.end(i) - 0.05) return true;
    return false;
  };
  const isEnd = () => {
    const last = buffer.buffered.length - 1, piece = Math.ceil(duration / SECONDS) - 1;
    return source.readyState === "open" && !buffer.updating && last >= 0 && buffer.buffered.end(last) > piece * SECONDS + 0.05;
  };
  const append = () => {
    if (!buffer || buffer.updating || !waiting.length) return;
    const { n, data } = waiting.shift(), mine = asked;
    buffer.addEventListener("updateend", () => mine.delete(n), { once: true });
    buffer.timestampOffset = n * SECONDS;
    buffer.appendBuffer(data);
  };
  const need = async (time) => {
    const n = Math.floor(time / SECONDS), mine = source;
    if (time < 0 || time >= duration || !source || source.readyState === "closed" || asked.has(n) || holds(time)) return;
    asked.add(n);
    const first = n === Math.floor(place / SECONDS);
    if (first) wait.hidden = false;
    try {
      const { type, buffer: data } = await fetchPiece(key, n);
      if (mine !== source) return;
      if (!buffer) {
        buffer = source.addSourceBuffer(type);
        source.duration = duration;
        buffer.addEventListener("updateend", () => {
          if (mine !== source) return;
          if (video.currentTime !== place && video.readyState < 2 && holds(place)) video.currentTime = place;
          append();
          if (isEnd()) source.endOfStream(); // without it the last frame is never shown; the next piece opens it again
        });
      }
      waiting.push({ n, data });
      append();
    } catch (error) {
      if (mine !== source) return;
      asked.delete(n);
      say(error.message, true);
    } finally {
      if (mine === source) {
        wait.hidden ||= first;
        settled();
      }
    }
  };
  const feed = (time) => {
    need(time);
    if (!video.paused) need((Math.floor(time / SECONDS) + 1) * SECONDS);
  };
  const seek = (time, end = null) => {
    stopAt = end;
    place = Math.max(0, Math.min(time, duration - 0.05));
    if (video.currentTime !== place) video.currentTime = place;
    feed(place);
  };
  const watch = () => {
    const end = Math.min(stopAt ?? Infinity, duration - 0.1); // the last frame may end a little early
    if (!video.paused && !video.seeking && video.currentTime >= end) {
      video.pause();
      seek(end);
    }
    if (!video.paused) requestAnimationFrame(watch);
  };
  // The reader's own seek, on the native bar or by keys: what we seek to is `place`.
  const follow = () => (Math.abs(video.currentTime - place) > 0.01 ? seek(video.currentTime) : feed(place));
  video.addEventListener("seeking", follow);
  for (const name of ["timeupdate", "waiting", "play"]) video.addEventListener(name, () => feed(video.currentTime));
  for (const name of ["timeupdate", "play"]) video.addEventListener(name, watch);
  video.addEventListener("error", () => video.error && key !== null && say(`the player stopped: ${video.error.message}`, true));

  const close = () => {
    settled();
    key = null;
    wait.hidden = true;
    video.pause();
    if (video.src) URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load(); // without it the last video's sound goes on
    source = buffer = null;
    asked = new Set();
    waiting = [];
  };
  // Show the video `newKey` from `start`, paused. The promise is kept once its picture is there, or will not come.
  const open = (newKey, newDuration, start, end) => {
    close();
    [key, duration] = [newKey, newDuration];
    const mine = (source = new MediaSource());
    mine.addEventListener("sourceopen", () => mine === source && seek(start, end), { once: true });
    video.src = URL.createObjectURL(mine);
    return new Promise((resolve) => (settled = resolve));
  };
  const play = () => video.play().catch((error) => error.name === "NotAllowedError" && say("press play"));
  return { box, video, open, seek, play, close };
}
