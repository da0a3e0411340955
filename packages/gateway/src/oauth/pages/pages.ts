// The pages that people see: sign-in, consent, and errors. Text of a client is always escaped.

import type { Scope } from "@formation-mcp/auth";
import { OAUTH_HEADERS } from "../../http/response-headers.ts";
import { type ClientDisplay, plainText } from "../provider/clients.ts";
import { SCOPE_TEXTS } from "../provider/scopes.ts";
import { assetUrl } from "./assets.ts";
import { html, Markup } from "./html.ts";

export interface Page {
  body: string;
  headers: Readonly<Record<string, string>>;
}

/** What the sign-in page shows. */
export interface LoginView {
  uid: string;
  formToken: string;
  /** This server's origin, as clients know it. */
  origin: string;
  client: ClientDisplay;
  /** The login code, as people read it: `ABCD-EFGH`. */
  code: string;
  /** Why the last attempt failed. */
  problem?: string;
}

export interface ConsentView {
  uid: string;
  formToken: string;
  /** This server's origin, as clients know it. */
  origin: string;
  client: ClientDisplay;
  owner: string;
  scopes: readonly Scope[];
  /** The requested scopes that the account does not have. */
  withheld: readonly Scope[];
}

export function loginPage(view: LoginView): Page {
  const { uid, formToken, origin, client, code, problem } = view;
  const server = new URL(origin).host;
  const base = `/auth/login/${uid}`;
  return page({
    title: "Sign in",
    server,
    action: client.redirect.source,
    script: true,
    attributes: html` data-page="login" data-base="${base}" data-csrf="${formToken}"`,
    content: html`
<h1>Sign in with your key</h1>
<p class="soft">to go on to <strong>${nameOf(client)}</strong>. Your key signs one message and never leaves your wallet or your computer.</p>
${clientDetails(client)}
${problem === undefined ? "" : html`<p class="note bad" role="alert">${problem}</p>`}
<p class="note" id="status" role="status" hidden></p>
<p id="reload" hidden><a href="${base}">Get a new code</a></p>
<section id="wallet" hidden aria-labelledby="wallet-title">
<h2 id="wallet-title">With your browser’s wallet</h2>
<button type="button" class="main" id="wallet-button">Sign with wallet</button>
</section>
<section aria-labelledby="code-title">
<h2 id="code-title">With a key file, in a terminal</h2>
<p class="soft">Run this on the computer that has your key, and compare what it shows. The code is good once, for five minutes.</p>
<p class="code">${code}</p>
<pre><code>formation-mcp login <span class="one">${code}</span> --server ${origin}</code></pre>
<p class="soft">Never sign a code that somebody else sent you: it would let them in as you.</p>
</section>
<form method="post" action="${base}" id="finish">
<input type="hidden" name="csrf" value="${formToken}">
<input type="hidden" name="message" value="">
<input type="hidden" name="signature" value="">
<noscript><div class="pair"><button class="main">I have signed: continue</button></div></noscript>
</form>
<form method="post" action="${base}"><input type="hidden" name="csrf" value="${formToken}"><button class="link" name="decision" value="cancel">Cancel and go back</button></form>`,
  });
}

export function consentPage(view: ConsentView): Page {
  const { uid, formToken, origin, client, owner, scopes, withheld } = view;
  const server = new URL(origin).host;
  const list = scopes.map((scope) => {
    const { title, detail, strong } = SCOPE_TEXTS[scope];
    return html`<li${strong ? new Markup(' class="strong"') : ""}><span class="mark" aria-hidden="true">${strong ? "!" : "✓"}</span><div><b>${title}</b><span>${detail}</span></div></li>`;
  });
  const csrf = html`<input type="hidden" name="csrf" value="${formToken}">`;
  const action = `/auth/consent/${uid}`;
  return page({
    title: "Allow access?",
    server,
    action: client.redirect.source,
    script: false,
    attributes: html``,
    content: html`
<h1>Allow ${nameOf(client)} to use your account?</h1>
${clientDetails(client, owner)}
<section aria-labelledby="scopes-title">
<h2 id="scopes-title">${scopes.length > 0 ? "It will be able to" : "It asks for what your account may not do"}</h2>
<ul class="scopes">${list}</ul>
${withheld.length === 0 ? "" : html`<p class="soft after">It also asked for ${withheld.join(", ")}, which your account does not have and it will not get.</p>`}
</section>
${warnings(client)}
<form method="post" action="${action}">${csrf}
<div class="pair"><button name="decision" value="deny">Deny</button>${scopes.length > 0 ? html`<button class="main" name="decision" value="allow">Allow</button>` : ""}</div>
</form>
<form method="post" action="${action}">${csrf}<button class="link" name="decision" value="switch">Use another key</button></form>`,
  });
}

/** The page for a request that cannot go on. */
export function errorPage(code: string, description?: string, remedy?: string): Page {
  return page({
    title: "This did not work",
    server: "",
    action: "",
    script: false,
    attributes: html``,
    content: html`
<h1>This did not work</h1>
<p>${plainText(description, 300) || "The request could not be understood."}</p>
<p class="soft">${remedy ?? "Go back to the app that sent you here and start again there."}</p>
<dl><div><dt>Error</dt><dd class="key">${plainText(code, 60)}</dd></div></dl>`,
  });
}

/** A client's name for people: its own, or its host's. */
function nameOf(client: ClientDisplay): string {
  return client.name ?? client.verifiedHost ?? client.redirect.label;
}

function clientDetails(client: ClientDisplay, owner?: string): Markup {
  return html`<dl>
${client.verifiedHost === null ? "" : html`<div><dt>Published by</dt><dd>${client.verifiedHost}</dd></div>`}
<div><dt>Returns to</dt><dd>${client.redirect.label}</dd></div>
${owner === undefined ? "" : html`<div><dt>Your account</dt><dd class="key">${owner}</dd></div>`}
</dl>`;
}

function warnings(client: ClientDisplay): Markup {
  const local = client.redirect.kind !== "web";
  const unverified = client.verifiedHost === null;
  if (!local && !unverified) return html``;
  return html`<div class="note">
${unverified ? html`<p><strong>Nobody has verified the name.</strong> The app chose it itself; go by where it returns to.</p>` : ""}
${local ? html`<p><strong>The answer goes to a program on this computer.</strong> Allow it only if you have just started this from an app that you trust.</p>` : ""}
</div>`;
}

function page(parts: {
  title: string;
  server: string;
  /** Where a form may redirect to, beside this server. */
  action: string;
  script: boolean;
  attributes: Markup;
  content: Markup;
}): Page {
  const { title, server, action, script, attributes, content } = parts;
  const { text } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title} · Formation</title>
<link rel="icon" href="${assetUrl("mark.svg")}" type="image/svg+xml">
<link rel="stylesheet" href="${assetUrl("page.css")}">
${script ? html`<script src="${assetUrl("page.js")}" defer></script>` : ""}
</head>
<body>
<main${attributes}>
<p class="brand"><img src="${assetUrl("mark.svg")}" alt="" width="28" height="28"><span>Formation${server === "" ? "" : ` · ${server}`}</span></p>${content}
</main>
</body>
</html>
`;
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    // Browsers apply this to the redirects that follow a form, too.
    `form-action 'self' ${action}`.trim(),
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join("; ");
  return {
    body: text,
    headers: {
      ...OAUTH_HEADERS,
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
    },
  };
}
