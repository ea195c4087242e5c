// The beat of the heart, in a worker: in a window that nobody looks at, timers may run once a minute, and a client that
// is silent for longer than HEARTBEAT_TIMEOUT is gone.

let timer;

onmessage = ({ data }) => {
  clearTimeout(timer);
  if (!data) return;
  const beat = () => {
    postMessage("beat");
    timer = setTimeout(beat, data.interval);
  };
  // The first comes at any moment of the interval: a thousand clients that reconnect at once must not beat as one.
  timer = setTimeout(beat, data.interval * Math.random());
};
