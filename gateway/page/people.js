// Some people and a channel to try the service with. `scripts/token ada` makes a token for the same Ada: the ids are
// version 5 UUIDs of `urn:presence:user:<name>` and `urn:presence:channel:<name>`.

export const PEOPLE = [
  { id: "742f737f-9f72-5e67-aaa8-dc1b8924d509", name: "Ada", hue: 262 },
  { id: "013d23b3-554e-5738-bad8-59dbcd347ff8", name: "Ben", hue: 205 },
  { id: "06a05534-9dd7-5682-b4b3-3824c2f916d5", name: "Cleo", hue: 330 },
  { id: "ae5b76d8-5a91-5839-ad35-8c0f97842247", name: "Dana", hue: 28 },
  { id: "fe09e21e-55ed-5fa9-985e-eda611f4f267", name: "Emil", hue: 160 },
  { id: "d79ecae2-55af-58f9-9eed-1f454e561e90", name: "Fay", hue: 296 },
];

export const CHANNEL = "28e87636-18cf-54f1-8c6a-26e8ad391c27";
