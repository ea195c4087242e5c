// The client's side of the gateway: identify, subscribe, heartbeats, and a connection that heals by itself.

const BACKOFF = { first: 500, longest: 15_000 };
/// Closed by us because the gateway no longer answers.
const NO_ANSWER = 4000;
const AUTHENTICATION_FAILED = 4004;

/// Events: `state` (`detail.state` is `connecting`, `ready`, `waiting` or `refused`; `waiting` has `until`, in ms) and
/// `frame` (`detail` has `sent`, `text` and `frame`).
export class Gateway extends EventTarget {
  #url;
  #identify;
  #subscription;
  #socket = null;
  #answered = true;
  #attempts = 0;
  #retry;
  #over = false;
  #metronome = new Worker("/page/metronome.js");

  constructor(url, { token, platform, users, channels }) {
    super();
    this.#url = url;
    this.#identify = { op: 2, d: { token, platform } };
    this.#subscription = { op: 14, d: { user_ids: users, channel_ids: channels } };
    this.#metronome.onmessage = () => this.#beat();
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    this.#connect();
  }

  /// Ends the wait for the next attempt.
  now() {
    if (this.#retry && !this.#over) this.#connect();
  }

  /// Leaves for good.
  close() {
    this.#over = true;
    clearTimeout(this.#retry);
    this.#metronome.terminate();
    this.#socket?.close(1000);
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#tell("state", { state: "connecting" });
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => socket === this.#socket && this.#closed(code);
  }

  #hear(text) {
    const frame = JSON.parse(text);
    this.#tell("frame", { sent: false, text, frame });
    if (frame.op === 10) {
      this.#answered = true;
      this.#metronome.postMessage({ interval: frame.d.heartbeat_interval });
      this.#send(this.#identify);
    } else if (frame.op === 11) {
      this.#answered = true;
    } else if (frame.op === 0) {
      this.#attempts = 0;
      this.#send(this.#subscription);
      this.#tell("state", { state: "ready", userId: frame.d.user_id });
    }
  }

  #beat() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (this.#answered) {
      this.#answered = false;
      this.#send({ op: 1, d: null });
    } else {
      // The other side may be gone without a word; a close that waits for its answer would take its time.
      const socket = this.#socket;
      this.#closed(NO_ANSWER);
      socket.close(NO_ANSWER);
    }
  }

  #send(frame) {
    const text = JSON.stringify(frame);
    this.#socket.send(text);
    this.#tell("frame", { sent: true, text, frame });
  }

  #closed(code) {
    this.#socket = null;
    this.#metronome.postMessage(null);
    if (this.#over) return;
    if (code === AUTHENTICATION_FAILED) {
      this.#over = true;
      this.#tell("state", { state: "refused" });
      return;
    }
    // Anywhere between nothing and the whole of it, so that those who were cut off together do not come together.
    const longest = Math.min(BACKOFF.first * 2 ** this.#attempts++, BACKOFF.longest);
    const wait = 100 + Math.random() * longest;
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#tell("state", { state: "waiting", until: Date.now() + wait, code });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
