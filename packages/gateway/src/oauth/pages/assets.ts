// The three files that the pages load: style, script and logo. They are text here, because a build step for a
// hundred lines would cost more than it gives. This folder knows what the sign-in and consent pages look like
// and say.

import { createHash } from "node:crypto";

const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f3f4f7; --card: #ffffff; --ink: #16191f; --soft: #545b69; --line: #d9dde5;
  --accent: #2b50d8; --accent-ink: #ffffff; --tint: #eef2ff; --warn: #7a4a00; --warn-tint: #fff4df; --warn-line: #eccb8d;
  --bad: #a3152a; --bad-tint: #fdecee; --bad-line: #f0b7bf; --good: #11694a;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1217; --card: #181c24; --ink: #eceff5; --soft: #a4adbd; --line: #303745;
    --accent: #a9bcff; --accent-ink: #0d1530; --tint: #1f2740; --warn: #f3cf8e; --warn-tint: #2f2716; --warn-line: #5d4a20;
    --bad: #ffb3bd; --bad-tint: #34181d; --bad-line: #6b2c37; --good: #8fe0be;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); min-height: 100vh; display: grid; grid-template-columns: minmax(0, 30rem); place-content: start center; padding: 1rem; }
main { background: var(--card); border: 1px solid var(--line); border-radius: 1rem; padding: 1.5rem; box-shadow: 0 1px 3px rgb(0 0 0 / .06), 0 12px 32px rgb(0 0 0 / .06); }
@media (min-width: 40rem) { body { padding: 3.5rem 1rem; } main { padding: 2rem; } }
.brand { display: flex; align-items: center; gap: .6rem; color: var(--soft); font-size: .9rem; margin: 0 0 1.25rem; overflow-wrap: anywhere; }
.brand img { display: block; border-radius: .4rem; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .5rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 .35rem; }
p { margin: 0 0 .75rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .925rem; }
.after { margin-top: .9rem; }
.soft:last-child, .note p:last-child { margin-bottom: 0; }
section { border-top: 1px solid var(--line); margin-top: 1.25rem; padding-top: 1.25rem; }
dl { margin: 1rem 0 0; border: 1px solid var(--line); border-radius: .75rem; }
dl div { display: grid; gap: 0 .75rem; align-items: baseline; padding: .6rem .85rem; }
@media (min-width: 28rem) { dl div { grid-template-columns: 7.5rem 1fr; } }
dl div + div { border-top: 1px solid var(--line); }
dt { color: var(--soft); font-size: .925rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.key { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: .85rem; }
button, .button { font: inherit; font-weight: 600; min-height: 3rem; width: 100%; padding: .6rem 1rem; border-radius: .7rem; border: 1px solid var(--line); background: transparent; color: var(--ink); cursor: pointer; }
button:hover { background: var(--tint); }
button.main { background: var(--accent); border-color: var(--accent); color: var(--accent-ink); }
button.main:hover { filter: brightness(1.08); }
button:disabled { opacity: .6; cursor: progress; }
button.link { width: auto; min-height: 2.75rem; border: 0; padding: .25rem .1rem; font-weight: 500; color: var(--accent); text-decoration: underline; text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.pair { display: grid; gap: .65rem; margin-top: 1.25rem; }
@media (min-width: 24rem) { .pair { grid-template-columns: 1fr 1fr; } }
.code { font: 700 1.85rem/1.2 ui-monospace, SFMono-Regular, Menlo, monospace; letter-spacing: .06em; text-align: center; background: var(--tint); border-radius: .75rem; padding: .8rem .5rem; margin: .5rem 0 .75rem; user-select: all; }
pre { margin: 0 0 .75rem; padding: .7rem .85rem; background: var(--page); border: 1px solid var(--line); border-radius: .6rem; font: .9rem/1.4 ui-monospace, SFMono-Regular, Menlo, monospace; white-space: pre-wrap; overflow-wrap: anywhere; user-select: all; }
.one { white-space: nowrap; }
.note + #reload { margin: .75rem 0 0; }
ul.scopes { list-style: none; margin: .5rem 0 0; padding: 0; display: grid; gap: .6rem; }
ul.scopes li { display: grid; grid-template-columns: 1.5rem 1fr; gap: .6rem; }
ul.scopes .mark { color: var(--good); font-weight: 700; text-align: center; }
ul.scopes .strong .mark { color: var(--warn); }
ul.scopes b { display: block; font-weight: 600; }
ul.scopes span { color: var(--soft); font-size: .925rem; }
.note { border: 1px solid var(--warn-line); background: var(--warn-tint); color: var(--warn); border-radius: .75rem; padding: .7rem .85rem; margin-top: 1rem; font-size: .925rem; }
.bad { border-color: var(--bad-line); background: var(--bad-tint); color: var(--bad); margin: 0 0 1rem; }
[hidden] { display: none !important; }
`;

/** It makes no markup from text: what the server sends is shown with textContent. */
const SCRIPT = `
"use strict";
const page = document.querySelector("main[data-page=login]");
if (page) {
  const { base, csrf } = page.dataset;
  const form = document.getElementById("finish");
  const wallet = document.getElementById("wallet");
  const button = document.getElementById("wallet-button");
  const status = document.getElementById("status");
  const say = (text) => { status.textContent = text; status.hidden = text === ""; };

  // EIP-1193, and EIP-6963 for wallets that announce themselves instead.
  let announced;
  const provider = () => window.ethereum || announced;
  const offer = () => { if (provider()) wallet.hidden = false; };
  offer();
  window.addEventListener("ethereum#initialized", offer, { once: true });
  window.addEventListener("eip6963:announceProvider", ({ detail }) => { announced = announced || detail.provider; offer(); });
  window.dispatchEvent(new Event("eip6963:requestProvider"));

  const hex = (text) => "0x" + Array.from(new TextEncoder().encode(text), (byte) => byte.toString(16).padStart(2, "0")).join("");

  const post = async (path, body) => {
    const answer = await fetch(base + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-form-token": csrf },
      body: JSON.stringify(body),
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.message);
    return value;
  };

  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      say("Waiting for your wallet: choose an account.");
      const [address] = await provider().request({ method: "eth_requestAccounts" });
      const { message } = await post("/challenge", { address });
      say("Waiting for your wallet: read the message and sign it. Nothing is sent to any chain.");
      form.elements.signature.value = await provider().request({ method: "personal_sign", params: [hex(message), address] });
      form.elements.message.value = message;
      say("Signing in.");
      form.submit();
    } catch (error) {
      say(error && error.code === 4001 ? "The wallet was told not to sign. You can try again." : "That did not work: " + (error && error.message ? error.message : "the wallet gave no reason") + " You can try again.");
      button.disabled = false;
    }
  });

  const watch = async () => {
    try {
      const answer = await fetch(base + "/state");
      const { state } = await answer.json();
      if (state === "signed") { say("Signed. Going on."); form.submit(); return; }
      if (state !== "waiting") {
        say("The code has expired. Reload this page for a new one.");
        document.getElementById("reload").hidden = false;
        return;
      }
    } catch {
      // The next look may succeed.
    }
    setTimeout(watch, 1500);
  };
  setTimeout(watch, 1500);
}
`;

const MARK = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32"><rect width="32" height="32" rx="7" fill="#2b50d8"/><path d="M9 8h14v4H13v4h8v4h-8v5H9z" fill="#fff"/></svg>`;

const FILES: Readonly<Record<string, { type: string; text: string }>> = {
  "page.css": { type: "text/css; charset=utf-8", text: STYLE },
  "page.js": { type: "text/javascript; charset=utf-8", text: SCRIPT },
  "mark.svg": { type: "image/svg+xml", text: MARK },
};

/** A file by its name, or undefined. */
export function assetOf(name: string): { type: string; text: string } | undefined {
  return Object.hasOwn(FILES, name) ? FILES[name] : undefined;
}

/** The URL of a file. It changes with the content, so browsers may cache it for ever. */
export function assetUrl(name: "page.css" | "page.js" | "mark.svg"): string {
  const digest = createHash("sha256")
    .update(FILES[name]?.text ?? "")
    .digest("hex");
  return `/auth/assets/${name}?v=${digest.slice(0, 12)}`;
}
