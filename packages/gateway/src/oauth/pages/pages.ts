// The pages that people see: signing in, saying yes or no, and what went wrong. The secret is their words and their markup;
// whatever a client calls itself is text in them.

import type { Scope } from "@formation-mcp/auth";
import { SAFE_HEADERS } from "../node-http.ts";
import { type ClientDisplay, plainText } from "../provider/clients.ts";
import { SCOPE_TEXTS } from "../provider/scopes.ts";
import { showCode } from "../secrets.ts";
import { assetUrl } from "./assets.ts";
import { html, Markup } from "./html.ts";

export interface Page {
  body: string;
  headers: Readonly<Record<string, string>>;
}

/** What the page for signing in shows. */
export interface LoginView {
  uid: string;
  formToken: string;
  /** This server's, as clients know it. */
  origin: string;
  face: ClientDisplay;
  code: string;
  /** What went wrong with the last try. */
  problem?: string;
}

export interface ConsentView {
  uid: string;
  formToken: string;
  /** This server's, as clients know it. */
  origin: string;
  face: ClientDisplay;
  owner: string;
  scopes: readonly Scope[];
  /** What was asked for and the account does not have. */
  withheld: readonly Scope[];
}

export function loginPage(view: LoginView): Page {
  const { uid, formToken, origin, face, code, problem } = view;
  const server = new URL(origin).host;
  const base = `/auth/login/${uid}`;
  return page({
    title: "Sign in",
    server,
    action: face.redirect.source,
    script: true,
    attributes: html` data-page="login" data-base="${base}" data-csrf="${formToken}"`,
    content: html`
<h1>Sign in with your key</h1>
<p class="soft">to go on to <strong>${nameOf(face)}</strong>. Your key signs one message and never leaves your wallet or your computer.</p>
${who(face)}
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
<p class="code">${showCode(code)}</p>
<pre><code>formation-mcp login <span class="one">${showCode(code)}</span> --server ${origin}</code></pre>
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
  const { uid, formToken, origin, face, owner, scopes, withheld } = view;
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
    action: face.redirect.source,
    script: false,
    attributes: html``,
    content: html`
<h1>Allow ${nameOf(face)} to use your account?</h1>
${who(face, owner)}
<section aria-labelledby="scopes-title">
<h2 id="scopes-title">${scopes.length > 0 ? "It will be able to" : "It asks for what your account may not do"}</h2>
<ul class="scopes">${list}</ul>
${withheld.length === 0 ? "" : html`<p class="soft after">It also asked for ${withheld.join(", ")}, which your account does not have and it will not get.</p>`}
</section>
${warning(face)}
<form method="post" action="${action}">${csrf}
<div class="pair"><button name="decision" value="deny">Deny</button>${scopes.length > 0 ? html`<button class="main" name="decision" value="allow">Allow</button>` : ""}</div>
</form>
<form method="post" action="${action}">${csrf}<button class="link" name="decision" value="switch">Use another key</button></form>`,
  });
}

/** A page that says that it can't go on. */
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

/** How a person is told which client it is: by what it calls itself, or by its host. */
function nameOf(face: ClientDisplay): string {
  return face.name ?? face.verifiedHost ?? face.redirect.label;
}

function who(face: ClientDisplay, owner?: string): Markup {
  return html`<dl>
${face.verifiedHost === null ? "" : html`<div><dt>Published by</dt><dd>${face.verifiedHost}</dd></div>`}
<div><dt>Returns to</dt><dd>${face.redirect.label}</dd></div>
${owner === undefined ? "" : html`<div><dt>Your account</dt><dd class="key">${owner}</dd></div>`}
</dl>`;
}

function warning(face: ClientDisplay): Markup {
  const local = face.redirect.kind !== "web";
  const unverified = face.verifiedHost === null;
  if (!local && !unverified) return html``;
  return html`<div class="note">
${unverified ? html`<p><strong>Nobody has verified the name.</strong> The app chose it itself; go by where it returns to.</p>` : ""}
${local ? html`<p><strong>The answer goes to a program on this computer.</strong> Allow it only if you have just started this from an app that you trust.</p>` : ""}
</div>`;
}

function page(parts: {
  title: string;
  server: string;
  /** Where a form may lead beside this server. */
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
    // Browsers hold the redirects that follow a form against this, too.
    `form-action 'self' ${action}`.trim(),
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join("; ");
  return {
    body: text,
    headers: {
      ...SAFE_HEADERS,
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
    },
  };
}
