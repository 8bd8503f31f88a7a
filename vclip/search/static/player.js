// A <video> that plays one clip of a longer video. Times are seconds of the longer video; the <video> itself counts from
// the clip's start. fetchClip(hit, start, end) -> Promise of {buffer}, a WebM file.
const AROUND = 2, ONWARD = 18; // shown before and after a hit, and after a second that was clicked

function makePlayer(fetchClip, moved, say) {
  const box = make("div", "player"), video = make("video", "clip", "", { controls: "" }), wait = make("div", "wait", "encoding the clip…");
  box.append(video, wait);
  let hit = null, start = 0, end = 0, begin = 0, stop = Infinity, calls = 0, last = Promise.resolve();

  const close = () => {
    calls++;
    start = end = 0;
    wait.hidden = true;
    video.pause();
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load(); // without it the sound goes on
  };
  const play = () => video.play().catch((error) => error.name === "NotAllowedError" && say("press play"));
  // Play from `from` and pause at `to`, in a clip that ends at `until`.
  const load = async (from, to, until) => {
    close();
    const mine = calls, span = [Math.max(0, from - AROUND), Math.min(until, hit.seconds)];
    wait.hidden = false;
    try {
      await last; // one clip at a time: the reader may want another one by then
      if (mine !== calls) return;
      const answer = fetchClip(hit, ...span);
      last = answer.catch(() => {});
      const { buffer } = await answer;
      if (mine !== calls) return;
      [start, end, begin, stop] = [...span, from, to];
      video.src = urlOf(buffer, "video/webm");
    } catch (error) {
      if (mine === calls) say(error.message, true);
    }
    if (mine === calls) wait.hidden = true;
  };
  const open = (newHit) => {
    hit = newHit;
    return load(hit.start, hit.end, hit.end + AROUND);
  };
  const seek = (second) => {
    if (second < start || second >= end) return load(second, Infinity, second + ONWARD);
    video.currentTime = second - start;
    play();
  };
  const follow = () => {
    if (!video.paused && !video.seeking && start + video.currentTime >= stop) {
      video.pause();
      [video.currentTime, stop] = [stop - start, Infinity];
    }
    moved(start + video.currentTime);
    if (!video.paused) requestAnimationFrame(follow);
  };
  video.addEventListener("loadedmetadata", () => {
    video.currentTime = begin - start;
    play();
  });
  video.addEventListener("play", follow);
  video.addEventListener("seeking", () => {
    if (Math.abs(start + video.currentTime - begin) > 0.01) stop = Infinity; // the reader's own seek: play on
    moved(start + video.currentTime);
  });
  video.addEventListener("error", () => video.src && say(`the player stopped: ${video.error.message}`, true));
  const set = (newHit) => { hit = newHit; };
  return { box, open, seek, close, set };
}
