// A <video> that plays moments. A video that the page can play is sent once, whole; of any other a clip is encoded for
// each place that is wanted. Times are seconds of the video; the <video> itself counts from the beginning of what was
// sent. fetchMoment(hit, start, end, codecs) -> Promise of {buffer, whole}, a WebM file unless it is whole.
const AROUND = 2, ONWARD = 18; // shown before and after a hit, and after a second that was clicked
const MP4 = "video/mp4; codecs=", WEBM = "video/webm; codecs=";
// by FFmpeg's names; a level that covers 1080p stands for all
const CODECS = {
  h264: `${MP4}"avc1.640028"`, vp8: `${WEBM}"vp8"`, vp9: `${WEBM}"vp9"`, av1: `${WEBM}"av01.0.08M.08"`,
  aac: `${MP4}"mp4a.40.2"`, mp3: `${MP4}"mp3"`, opus: `${WEBM}"opus"`, vorbis: `${WEBM}"vorbis"`, flac: `${MP4}"flac"`,
};

function makePlayer(fetchMoment, moved, say) {
  const box = make("div", "player"), video = make("video", "clip", "", { controls: "" }), wait = make("div", "wait", "loading the moment…");
  box.append(video, wait);
  wait.hidden = true;
  const codecs = Object.keys(CODECS).filter((name) => video.canPlayType(CODECS[name]) === "probably");
  const refused = new Set(); // videos that the page could not play after all
  let hit = null, start = 0, end = 0, whole = null, begin = 0, stop = Infinity, calls = 0, last = Promise.resolve();

  const pause = () => {
    calls++;
    wait.hidden = true;
    video.pause();
  };
  const close = () => {
    pause();
    start = end = 0;
    whole = null;
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load(); // without it the sound goes on
  };
  const play = () => video.play().catch((error) => error.name === "NotAllowedError" && say("press play"));
  // Play from `from` and pause at `to`, in a clip that ends at `until`.
  const load = async (from, to, until) => {
    if (whole === hit.video) {
      pause();
      [begin, stop] = [from, to];
      video.currentTime = from;
      return play();
    }
    close();
    const mine = calls, span = [Math.max(0, from - AROUND), Math.min(until, hit.seconds)];
    wait.hidden = false;
    try {
      await last; // one at a time: the reader may want another one by then
      if (mine !== calls) return;
      const answer = fetchMoment(hit, ...span, refused.has(hit.video) ? [] : codecs);
      last = answer.catch(() => {});
      const got = await answer;
      if (mine !== calls) return;
      if (got.whole) whole = hit.video;
      [start, end, begin, stop] = got.whole ? [0, Infinity, from, to] : [...span, from, to];
      const mp4 = got.whole && !hit.video.toLowerCase().endsWith(".webm");
      video.src = urlOf(got.buffer, mp4 ? "video/mp4" : "video/webm");
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
    if (video.paused) return;
    moved(start + video.currentTime);
    requestAnimationFrame(follow);
  };
  const fail = () => {
    if (!video.src) return;
    if (!whole) return say(`the player stopped: ${video.error.message}`, true);
    refused.add(whole);
    whole = null;
    load(begin, stop, Math.min(stop + AROUND, begin + ONWARD));
  };
  video.addEventListener("loadedmetadata", () => {
    if (!video.videoWidth) return fail(); // sound alone: the page cannot decode the picture
    video.currentTime = begin - start;
    play();
  });
  video.addEventListener("play", follow);
  video.addEventListener("seeking", () => {
    if (Math.abs(start + video.currentTime - begin) > 0.01) stop = Infinity; // the reader's own seek: play on
    moved(start + video.currentTime);
  });
  video.addEventListener("error", fail);
  const set = (newHit) => { hit = newHit; };
  return { box, open, seek, set, pause, close };
}
