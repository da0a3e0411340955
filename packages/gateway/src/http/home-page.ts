// The page at `/`: what this server is, and how to connect an MCP host, a terminal or a program to it.

import { createHash } from "node:crypto";
import { escapeHtml } from "./escape-html.ts";

const STYLE = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}
body{margin:0 auto;max-width:44rem;padding:2rem 1rem}
h1{line-height:1.2}
code,pre{font-family:ui-monospace,monospace;font-size:.95em}
pre{background:color-mix(in srgb,currentColor 8%,transparent);border-radius:.4rem;overflow-x:auto;padding:.8rem}`;

/** The page's content security policy: its own style, nothing else. */
export const HOME_PAGE_CSP = `default-src 'none'; style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`;

/** @param publicUrl an origin, already validated. */
export function homePage(publicUrl: string, version: string): string {
  const url = escapeHtml(publicUrl);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Formation MCP</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>Formation MCP</h1>
<p>A Formfile becomes a running, reachable, verified virtual machine. This is a server for a team and its agents, version ${escapeHtml(version)}.</p>
<h2>Connect an MCP host</h2>
<p>Give it this address; it finds the rest, and sends you to a page where you sign in with your key:</p>
<pre tabindex="0"><code>${url}/mcp</code></pre>
<h2>Connect from a terminal</h2>
<pre tabindex="0"><code>npx -y formation-mcp keygen
npx -y formation-mcp login --server ${url}</code></pre>
<h2>Connect a program</h2>
<p>The same tools are a REST API. <a href="/api">Its reference</a> is for people, <a href="/api/openapi.json">its OpenAPI document</a> for programs.</p>
</main>
</body>
</html>
`;
}
