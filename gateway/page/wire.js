// The panel of raw frames.

const MOST = 200;
const NAMES = { 0: "READY", 1: "HEARTBEAT", 2: "IDENTIFY", 3: "PRESENCE_UPDATE", 8: "TYPING_START", 10: "HELLO", 11: "HEARTBEAT_ACK", 14: "SUBSCRIBE" };

const frames = document.getElementById("frames");

export function clear() {
  frames.replaceChildren();
}

export function showFrame({ sent, text, frame, note, arrived }) {
  const item = document.createElement("li");
  const isBeat = frame.op === 1 || frame.op === 11;
  item.className = `${sent ? "sent" : "got"}${isBeat ? " beat" : ""}`;
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const time = new Date(arrived).toISOString().slice(11, 23);
  summary.append(
    column("arrow", sent ? "↑" : "↓", sent ? "sent" : "received"),
    column("time", time),
    column("op", NAMES[frame.op] ?? `op ${frame.op}`),
    column("note", note),
    column("text", shown(text, frame)),
  );
  const whole = document.createElement("pre");
  whole.textContent = JSON.stringify(frame.op === 2 ? JSON.parse(shown(text, frame)) : frame, null, 2);
  details.append(summary, whole);
  item.append(details);
  frames.prepend(item);
  while (frames.children.length > MOST) frames.lastChild.remove();
}

/// As it is, but for the token, which is nobody's business over a shoulder.
function shown(text, frame) {
  return frame.op === 2 ? JSON.stringify({ ...frame, d: { ...frame.d, token: "…" } }) : text;
}

function column(name, text, label) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  if (label) {
    element.role = "img";
    element.ariaLabel = label;
  }
  return element;
}
