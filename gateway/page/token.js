// Development tokens, made here in the page: a service that accepts them has no endpoint that gives them away, and
// nothing that could be left open by mistake. The secret is published, and good for nothing but a loopback service
// without a key of its own.

const DEVELOPMENT_SECRET = "presence-service-development-secret-known-to-everyone";
const LIFETIME = 24 * 60 * 60;

/// A token for a user. Browsers sign only on pages that come over TLS or from this very machine.
export async function developmentToken(userId) {
  const now = Math.floor(Date.now() / 1000);
  const message = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: userId, iat: now, exp: now + LIFETIME })}`;
  const secret = new TextEncoder().encode(DEVELOPMENT_SECRET);
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(message));
  return `${message}.${base64url(new Uint8Array(signature))}`;
}

/// The user whom a token claims; nobody if it is none.
export function claimedUser(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(payload)).sub ?? null;
  } catch {
    return null;
  }
}

const part = (value) => base64url(new TextEncoder().encode(JSON.stringify(value)));

function base64url(bytes) {
  const base64 = btoa(String.fromCharCode(...bytes));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
