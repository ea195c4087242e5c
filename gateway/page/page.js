// The page: who is signed in, what is known of everyone, and what of it is on the screen.

import { Gateway } from "./gateway.js";
import { CHANNEL, PEOPLE } from "./people.js";
import { claimedUser, developmentToken } from "./token.js";
import { clear as clearWire, showFrame } from "./wire.js";
import { activityText, face, list, seenText, WORDS } from "./words.js";

const TYPING_MS = Number(document.documentElement.dataset.typingMs);
/// Typing is told again after this long at the earliest.
const TYPING_REPEAT_MS = 5000;
const AVAILABLE_TOKENS = document.documentElement.dataset.tokens;

const at = (id) => document.getElementById(id);

/// Who is signed in: `{ token, person, gateway, own }`; nobody at first.
let me = null;
/// By id: what the last update said.
const presences = new Map();
/// By id: until when they are shown typing, in ms.
const typists = new Map();
/// Ids whose next update answers our subscription and tells of no change.
let expected = new Set();

// ── Coming and going ────────────────────────────────────────────────────────────────────────────────────────────────

function showDoor(why) {
  at("rooms").hidden = at("link").hidden = at("sign-out").hidden = true;
  at("door").hidden = false;
  at("people-door").hidden = AVAILABLE_TOKENS !== "development";
  alarm(why);
}

async function signIn(token, person) {
  const everyone = PEOPLE.some(({ id }) => id === person.id) ? PEOPLE : [person, ...PEOPLE];
  sessionStorage.setItem("token", token);
  presences.clear();
  typists.clear();
  clearWire();
  alarm();
  at("door").hidden = true;
  at("rooms").hidden = at("sign-out").hidden = false;
  document.title = `${person.name} · Presence`;
  const url = new URL("/gateway", location.href.replace(/^http/, "ws"));
  const users = everyone.map(({ id }) => id);
  const gateway = new Gateway(url, { token, platform: platform(), users, channels: [CHANNEL] });
  me = { token, person, everyone, gateway, own: null };
  // What an old connection still brings is for nobody.
  gateway.addEventListener("frame", ({ detail }) => me?.gateway === gateway && hear(detail));
  gateway.addEventListener("state", ({ detail }) => me?.gateway === gateway && showLink(detail));
  showLink({ state: "connecting" });
  buildRoster();
  await refreshOwn();
}

function signOut(why) {
  me?.gateway.close();
  me = null;
  sessionStorage.removeItem("token");
  document.title = "Presence";
  showDoor(why);
}

function platform() {
  return navigator.userAgentData?.mobile || matchMedia("(pointer: coarse) and (max-width: 40rem)").matches ? "mobile" : "web";
}

function personOf(id) {
  const someone = { id, name: `User ${id.slice(0, 8)}`, hue: parseInt(id.slice(0, 2), 16) };
  return me?.everyone.find((person) => person.id === id) ?? PEOPLE.find((person) => person.id === id) ?? someone;
}

// ── What comes ──────────────────────────────────────────────────────────────────────────────────────────────────────

function hear({ sent, text, frame }) {
  const arrived = Date.now();
  let note = "";
  if (sent && frame.op === 14) expected = new Set(frame.d.user_ids);
  if (!sent && frame.op === 3) {
    const { user_id: id, version } = frame.d;
    note = expected.delete(id) ? "snapshot" : delay(arrived - version);
    update(frame.d, note !== "snapshot");
  }
  if (!sent && frame.op === 8 && frame.d.channel_id === CHANNEL) {
    typists.set(frame.d.user_id, Math.min(frame.d.timestamp * 1000 + 999, arrived) + TYPING_MS);
    showTyping();
  }
  showFrame({ sent, text, frame, note, arrived });
}

/// Versions are the milliseconds of the change by the service's clock, unless many came in one of them.
function delay(ms) {
  return ms >= 0 && ms < 60_000 ? `+${ms} ms` : "";
}

function update(presence, isNews) {
  const before = presences.get(presence.user_id);
  // What came out of order, or twice, tells nothing.
  if (before && before.version > presence.version) return;
  presences.set(presence.user_id, presence);
  if (presence.status === "offline") typists.delete(presence.user_id);
  showPerson(presence.user_id);
  showTyping();
  if (presence.user_id === me.person.id) refreshOwn();
  else if (isNews && before && before.status !== presence.status) {
    at("news").textContent = `${personOf(presence.user_id).name} is ${WORDS[presence.status].toLowerCase()}`;
  }
}

// ── What is sent ────────────────────────────────────────────────────────────────────────────────────────────────────

/// A request of the user who is signed in: the body of a good answer; none, and a word on the screen, of a bad one.
async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${me.token}` };
  if (body) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const answer = response.status === 204 ? {} : await response.json();
    if (response.ok) {
      alarm();
      return answer;
    }
    const wait = response.headers.get("Retry-After");
    alarm(wait && response.status === 429 ? `Too often: try again in ${wait} s.` : (answer.detail ?? answer.title));
  } catch {
    alarm("The service does not answer.");
  }
  return null;
}

async function change(body) {
  const answer = await ask("POST", "/presence/status", body);
  if (answer && me) showOwn(answer.own);
  else if (me?.own) showOwn(me.own);
}

/// What only the user may see of their own choices is in no event.
async function refreshOwn() {
  const asker = me;
  const answer = await ask("GET", `/presence/${me.person.id}`);
  if (answer && me === asker) showOwn(answer.own);
}

let toldTyping = 0;

function typed() {
  const now = Date.now();
  if (!at("message").value.trim() || now - toldTyping < TYPING_REPEAT_MS) return;
  toldTyping = now;
  ask("POST", "/presence/typing", { channel_id: CHANNEL });
}

// ── What is on the screen ───────────────────────────────────────────────────────────────────────────────────────────

function alarm(text = "") {
  at("alarm").textContent = text;
  at("alarm").hidden = !text;
}

let link = { state: "none" };

function showLink(detail) {
  if (detail.state === "refused") return signOut("The service does not accept this token.");
  const recovered = link.state === "waiting" || link.lost;
  link = { ...detail, lost: detail.state !== "ready" && (recovered || detail.state === "waiting") };
  at("link").hidden = false;
  at("link").dataset.state = detail.state;
  at("link-now").hidden = detail.state !== "waiting";
  at("rooms").classList.toggle("stale", link.lost);
  showLinkText();
}

function showLinkText() {
  const seconds = Math.max(1, Math.ceil(((link.until ?? 0) - Date.now()) / 1000));
  const texts = {
    connecting: link.lost ? "Connection lost: connecting…" : "Connecting…",
    ready: "Connected",
    waiting: `Connection lost: trying again in ${seconds} s`,
  };
  const text = texts[link.state] ?? "";
  if (at("link-text").textContent !== text) at("link-text").textContent = text;
}

/// The rows of the roster, by id; and the user's own, which is a row like the others.
const rows = new Map();

function buildRoster() {
  rows.clear();
  at("here").replaceChildren();
  at("away").replaceChildren();
  for (const person of me.everyone) {
    const row = document.createElement("li");
    row.className = "person";
    row.dataset.user = person.name;
    rows.set(person.id, row);
    at("away").append(row);
    showPerson(person.id);
  }
}

function showPerson(id) {
  const row = rows.get(id);
  if (!row) return;
  const presence = presences.get(id) ?? { status: "offline", client_status: {}, activities: [] };
  const person = personOf(id);
  const you = id === me.person.id;
  row.replaceChildren(...face(person, presence, you));
  row.dataset.status = presence.status;
  if (you) {
    at("you-person").replaceChildren(...face(person, presence, false));
    at("you-person").dataset.status = presence.status;
  }
  const home = presence.status === "offline" ? at("away") : at("here");
  if (row.parentNode !== home) {
    const order = me.everyone.map((one) => one.id);
    const next = [...home.children].find((other) => order.indexOf(idOf(other)) > order.indexOf(id));
    home.insertBefore(row, next ?? null);
  }
  at("here-title").textContent = `Here · ${at("here").children.length}`;
  at("away-title").textContent = `Offline · ${at("away").children.length}`;
}

const idOf = (row) => [...rows].find(([, other]) => other === row)[0];

function showOwn(own) {
  if (!own) return;
  me.own = own;
  for (const radio of at("choices").elements) radio.checked = radio.value === own.intent;
  if (document.activeElement !== at("custom")) at("custom").value = own.custom_status ?? "";
  if (document.activeElement !== at("activity")) {
    at("activity").value = own.activity?.name ?? "";
    if (own.activity) at("activity-type").value = own.activity.type;
  }
}

function showTyping() {
  const names = [...typists.keys()].filter((id) => id !== me?.person.id).map((id) => personOf(id).name);
  const text = names.length > 3 ? "Several people are typing…" : names.length ? `${list(names)} ${names.length > 1 ? "are" : "is"} typing…` : "";
  if (at("typing").textContent !== text) at("typing").textContent = text;
}

/// What changes by the mere passing of time.
function tick() {
  if (!me) return;
  const now = Date.now();
  for (const [id, until] of typists) if (until <= now) typists.delete(id);
  showTyping();
  showLinkText();
  for (const element of document.querySelectorAll("[data-since]")) element.textContent = activityText(element.dataset.since, now);
  for (const element of document.querySelectorAll("[data-seen]")) element.textContent = seenText(element.dataset.seen, now);
}

// ── Hands ───────────────────────────────────────────────────────────────────────────────────────────────────────────

for (const person of PEOPLE) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.user = person.name;
  button.append(...face(person, null, false));
  button.onclick = async () => {
    try {
      const token = await developmentToken(person.id);
      signIn(token, person);
      at("you-title").focus();
    } catch {
      showDoor("This browser signs no tokens for pages from elsewhere: use http://127.0.0.1 or http://localhost.");
    }
  };
  const item = document.createElement("li");
  item.append(button);
  at("faces").append(item);
}

function onSubmit(form, act) {
  at(form).onsubmit = (event) => {
    event.preventDefault();
    act();
  };
}

onSubmit("token-form", () => {
  const token = at("token").value.trim();
  const id = claimedUser(token);
  at("token").value = "";
  if (id) signIn(token, personOf(id));
  else alarm("This is no token with a user in it.");
});
onSubmit("custom-form", () => change({ custom_status: at("custom").value.trim() || null }));
onSubmit("activity-form", () => {
  const name = at("activity").value.trim();
  change({ activity: name ? { type: at("activity-type").value, name } : null });
});
onSubmit("message-form", () => {
  at("message").value = "";
  toldTyping = 0;
});
at("choices").onchange = ({ target }) => change({ status: target.value });
at("message").oninput = typed;
at("link-now").onclick = () => me.gateway.now();
at("sign-out").onclick = () => {
  signOut();
  at("who").focus();
};
at("clear").onclick = clearWire;
at("beats").onchange = ({ target }) => (at("frames").dataset.beats = target.checked ? "shown" : "hidden");
setInterval(tick, 500);

const kept = sessionStorage.getItem("token");
if (kept && claimedUser(kept)) signIn(kept, personOf(claimedUser(kept)));
else showDoor();
