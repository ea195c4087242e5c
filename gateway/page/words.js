// How people and times are put into words and shapes.

const SVG = "http://www.w3.org/2000/svg";

export const WORDS = { online: "Online", idle: "Away", dnd: "Busy", offline: "Offline" };
const VERBS = { playing: "Playing", streaming: "Streaming", listening: "Listening to" };

/// The inside of a person's row: a face with the status on it, the name, and what is known. Without a presence, the face
/// and the name alone.
export function face(person, presence, isYou) {
  const avatar = part("span", "avatar", person.name[0]);
  avatar.ariaHidden = "true";
  avatar.style.setProperty("--hue", person.hue);
  const name = part("span", "name", person.name);
  if (!presence) return [avatar, name];

  avatar.append(shape(presence.status));
  if (isYou) name.append(part("small", "", " you"));
  const words = part("span", "words");
  words.append(name, part("span", "status", WORDS[presence.status]));
  for (const platform of Object.keys(presence.client_status)) words.append(part("span", "platform", platform));
  const lines = [words];
  if (presence.custom_status) lines.push(part("span", "custom", presence.custom_status));
  for (const activity of presence.activities) {
    const line = part("span", "activity", `${VERBS[activity.type]} `);
    const since = part("time", "since", activityText(activity.started_at, Date.now()));
    since.dataset.since = activity.started_at;
    line.append(part("b", "", activity.name), since);
    lines.push(line);
  }
  if (presence.status === "offline") {
    const seen = part("span", "seen", seenText(presence.last_seen ?? "", Date.now()));
    seen.dataset.seen = presence.last_seen ?? "";
    words.append(seen);
  }
  const about = part("span", "about");
  about.append(...lines);
  return [avatar, about];
}

function part(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function shape(status) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${status}`);
  svg.append(use);
  return svg;
}

/// How long an activity goes on: `4:07`, `1:04:07`.
export function activityText(since, now) {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

export function seenText(seen, now) {
  if (!seen) return "never seen";
  const minutes = Math.floor((now - Date.parse(seen)) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} min ago`;
  if (minutes < 24 * 60) return `last seen ${Math.floor(minutes / 60)} h ago`;
  const days = Math.floor(minutes / (24 * 60));
  return `last seen ${days} ${days === 1 ? "day" : "days"} ago`;
}

/// `Ada`, `Ada and Ben`, `Ada, Ben and Cleo`.
export function list(names) {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
