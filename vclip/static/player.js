// A <video> on the whole video's timeline that fetches short pieces, [n * SECONDS, (n + 1) * SECONDS), when they are
// needed. fetchPiece(key, n) -> Promise of {type, buffer}. `say` shows a sentence. All times are seconds.
const SECONDS = 4;

function makePlayer(fetchPiece, say) {
  const video = document.createElement("video");
  video.controls = true;
  let source = null, buffer = null, asked = new Set(), waiting = [], key = null, duration = 0, stopAt = null, place = 0;

  const holds = (time) => {
    for (let i = 0; buffer && i < video.buffered.length; i++)
      if (video.buffered.start(i) <= time + 0.1 && time < video.buffered.end(i) - 0.05) return true;
    return false;
  };
  const append = () => {
    if (!buffer || buffer.updating || !waiting.length) return;
    const { n, data } = waiting.shift();
    buffer.timestampOffset = n * SECONDS;
    buffer.appendBuffer(data);
  };
  const need = async (time) => {
    const n = Math.floor(time / SECONDS), mine = source;
    if (time < 0 || time >= duration || source?.readyState !== "open" || asked.has(n) || holds(time)) return;
    asked.add(n);
    if (!video.played.length) say("fetching the picture…");
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
        });
      }
      waiting.push({ n, data });
      append();
      say("");
    } catch (error) {
      if (mine === source) say(error.message, true);
    } finally {
      if (mine === source) asked.delete(n);
    }
  };
  const feed = () => {
    need(video.currentTime);
    if (!video.paused) need((Math.floor(video.currentTime / SECONDS) + 1) * SECONDS);
  };
  const seek = (time, end = null) => {
    stopAt = end;
    place = Math.max(0, Math.min(time, duration - 0.05));
    video.currentTime = place;
    need(place);
  };
  const watch = () => {
    const end = Math.min(stopAt ?? Infinity, duration - 0.1); // the last frame may end a little early
    if (!video.paused && !video.seeking && video.currentTime >= end) {
      video.pause();
      video.currentTime = end;
      stopAt = null;
    }
    if (!video.paused) requestAnimationFrame(watch);
  };
  for (const name of ["timeupdate", "seeking", "waiting", "play"]) video.addEventListener(name, feed);
  for (const name of ["timeupdate", "play"]) video.addEventListener(name, watch);
  video.addEventListener("error", () => video.error && key !== null && say(`the player stopped: ${video.error.message}`, true));

  const close = () => {
    key = null;
    video.pause();
    if (video.src) URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load(); // without it the last video's sound goes on
    source = buffer = null;
    asked = new Set();
    waiting = [];
  };
  // Show the video `newKey` from `start`, paused.
  const open = (newKey, newDuration, start, end) => {
    close();
    [key, duration] = [newKey, newDuration];
    const mine = (source = new MediaSource());
    mine.addEventListener("sourceopen", () => mine === source && seek(start, end), { once: true });
    video.src = URL.createObjectURL(mine);
  };
  const play = () => video.play().catch((error) => error.name === "NotAllowedError" && say("press play"));
  return { video, open, seek, play, close };
}
