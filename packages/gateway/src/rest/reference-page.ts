// The reference page: the OpenAPI document as HTML. It needs no script, no other file and no other server.

import { createHash } from "node:crypto";
import { escapeHtml } from "../http/escape-html.ts";

type Json = Record<string, unknown>;

const STYLE = `:root{color-scheme:light dark;font:1rem/1.55 system-ui,sans-serif;--line:color-mix(in srgb,currentColor 16%,transparent);--soft:color-mix(in srgb,currentColor 6%,transparent);--dim:color-mix(in srgb,currentColor 72%,transparent);--accent:light-dark(#0b5cad,#7cb7f5)}
*{box-sizing:border-box}
html{scroll-padding-top:1rem;background:light-dark(#fff,#131416);color:light-dark(#15171a,#e9eaec)}
body{margin:0;display:grid;grid-template-columns:minmax(15rem,19rem) minmax(0,1fr);min-height:100vh}
nav{position:sticky;top:0;height:100vh;overflow-y:auto;padding:1.5rem 1rem 2rem 1.5rem;border-right:1px solid var(--line);font-size:.875rem}
nav h2{font-size:.75rem;letter-spacing:.06em;text-transform:uppercase;color:var(--dim);margin:1.4rem 0 .3rem}
nav ul{list-style:none;margin:0;padding:0}
nav a{display:block;padding:.16rem 0;color:inherit;text-decoration:none;overflow-wrap:anywhere}
nav a:hover{color:var(--accent);text-decoration:underline}
nav .title{font-weight:650;font-size:1.05rem}
main{padding:2rem clamp(1rem,4vw,3.5rem) 6rem;max-width:64rem}
h1{line-height:1.15;font-size:2rem;margin:.2rem 0 .6rem}
main>section>h2{margin:3.2rem 0 .2rem;padding-bottom:.4rem;border-bottom:1px solid var(--line);font-size:1.35rem}
article{margin:1.6rem 0 2.2rem}
h3{display:flex;flex-wrap:wrap;align-items:baseline;gap:.3rem .7rem;font-size:1.02rem;margin:0 0 .35rem}
h4{font-size:.8rem;margin:1rem 0 .25rem;color:var(--dim);font-weight:600}
p{margin:.35rem 0;max-width:46rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:.9em}
h3 code{overflow-wrap:anywhere}
pre{background:var(--soft);border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;overflow-x:auto}
a{color:var(--accent)}
.method{font:700 .72rem/1 ui-monospace,monospace;padding:.28rem .42rem;border-radius:.3rem;color:#fff;background:#3f6212}
.method.post{background:#0b5cad}.method.put{background:#92400e}.method.delete{background:#b42318}
.access{font-size:.78rem;border:1px solid var(--line);border-radius:1rem;padding:.05rem .55rem;color:var(--dim);font-weight:500}
.old{font-size:.78rem;color:var(--dim);font-weight:500}
.table{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;font-size:.78rem;color:var(--dim)}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td:first-child{white-space:nowrap}
.must{color:light-dark(#b42318,#ff9d90);font-size:.78rem}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:Canvas;padding:.5rem}
@media(max-width:52rem){body{display:block}nav{position:static;height:auto;border-right:0;border-bottom:1px solid var(--line);max-height:14rem}}`;

/** The page's content security policy: its own style, nothing else. */
export const REFERENCE_PAGE_CSP = `default-src 'none'; style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`;

interface Shown {
  anchor: string;
  method: string;
  path: string;
  operation: Json;
}

/** Renders the OpenAPI document as a page. */
export function referencePage(document: Json): string {
  const info = object(document["info"]);
  const [server] = list(document["servers"]);
  const url = String(server?.["url"] ?? "");
  const all = operationsOf(document);
  const sections = list(document["tags"]).flatMap((tag) => {
    const shown = all.filter(({ operation }) => (operation["tags"] as string[])[0] === tag["name"]);
    return shown.length === 0 ? [] : [{ tag, shown }];
  });
  const nav = sections.map(({ tag, shown }) => {
    const links = shown.map(
      ({ anchor, method, path }) => `<li><a href="#${anchor}">${method} ${escapeHtml(short(path))}</a></li>`,
    );
    return `<h2>${escapeHtml(String(tag["description"]))}</h2><ul>${links.join("")}</ul>`;
  });
  const body = sections.map(
    ({ tag, shown }) =>
      `<section id="tag-${escapeHtml(String(tag["name"]))}"><h2>${escapeHtml(String(tag["description"]))}</h2>${shown.map(article).join("")}</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Formation MCP: REST reference</title>
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the reference</a>
<nav aria-label="Routes" tabindex="0"><a class="title" href="/">Formation MCP</a>${nav.join("")}</nav>
<main id="content">
<p>REST reference, version ${escapeHtml(String(info["version"]))} · <a href="/api/openapi.json">OpenAPI 3.1</a></p>
<h1>${escapeHtml(String(info["title"]))}</h1>
${paragraphs(String(info["description"] ?? ""))}
<p><strong>For example</strong></p>
<pre tabindex="0"><code>curl ${escapeHtml(url)}/api/tools/vm_list \\
  -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\
  -d '{"parameters": {}}'</code></pre>
${body.join("\n")}
</main>
</body>
</html>
`;
}

function operationsOf(document: Json): Shown[] {
  return Object.entries(object(document["paths"])).flatMap(([path, item]) =>
    Object.entries(object(item)).map(([method, operation]) => ({
      anchor: String(object(operation)["operationId"]),
      method: method.toUpperCase(),
      path,
      operation: object(operation),
    })),
  );
}

function article({ anchor, method, path, operation }: Shown): string {
  const access = String(operation["x-access"]);
  const old =
    operation["deprecated"] === true
      ? `<span class="old">old name of ${escapeHtml(String(operation["x-alias-of"]))}</span>`
      : "";
  const parameters = list(operation["parameters"]).map((one) => ({
    name: String(one["name"]),
    where: String(one["in"]),
    required: one["required"] === true,
    schema: { ...object(one["schema"]), description: one["description"] },
  }));
  return `<article id="${anchor}"><h3><span class="method ${method.toLowerCase()}">${method}</span><code>${escapeHtml(path)}</code><span class="access">${accessWord(access)}</span>${old}</h3>
<p><strong>${escapeHtml(String(operation["summary"]))}.</strong>${operation["description"] === undefined ? "" : ` ${text(String(operation["description"]))}`}</p>
${table("Parameters", parameters, `${method} ${path}`)}${requestOf(operation, `${method} ${path}`)}${answerOf(operation)}</article>`;
}

function accessWord(access: string): string {
  if (access === "public") return "no token needed";
  return access === "any" ? "any token" : `scope ${escapeHtml(access)}`;
}

interface Row {
  name: string;
  where?: string;
  required: boolean;
  schema: Json;
}

function table(title: string, rows: readonly Row[], of: string): string {
  if (rows.length === 0) return "";
  const lines = rows.map(({ name, where, required, schema }) => {
    const place = where === undefined || where === "path" ? "" : ` <span class="old">${where}</span>`;
    const must = required ? ' <span class="must">required</span>' : "";
    return `<tr><td><code>${escapeHtml(name)}</code>${place}${must}</td><td>${escapeHtml(typeOf(schema))}</td><td>${text(describe(schema))}</td></tr>`;
  });
  return `<h4>${title}</h4><div class="table" tabindex="0" role="region" aria-label="${title} of ${escapeHtml(of)}"><table><thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Meaning</th></tr></thead><tbody>${lines.join("")}</tbody></table></div>`;
}

function requestOf(operation: Json, of: string): string {
  const content = object(object(operation["requestBody"])["content"]);
  const [type, media] = Object.entries(content)[0] ?? [];
  if (type === undefined) return "";
  if (type !== "application/json")
    return `<h4>Body</h4><p>${Object.keys(content).map(escapeHtml).join(" or ")}</p>`;
  const schema = object(object(media)["schema"]);
  const inner = object(object(schema["properties"])["parameters"]);
  const fields = inner["properties"] === undefined ? schema : inner;
  return table(
    inner["properties"] === undefined ? "Body (JSON)" : "Body: {parameters: {…}}",
    rowsOf(fields),
    of,
  );
}

function answerOf(operation: Json): string {
  const ok = object(object(operation["responses"])["200"]);
  const [type, media] = Object.entries(object(ok["content"]))[0] ?? [];
  if (type === "text/event-stream") return "<h4>Answer</h4><p>A stream of server-sent events.</p>";
  const rows = rowsOf(object(object(object(object(media)["schema"])["properties"])["data"]));
  if (rows.length === 0) return "";
  const lines = rows.map(({ name, required, schema }) => {
    const comment = typeof schema["description"] === "string" ? `  // ${schema["description"]}` : "";
    return `  ${name}${required ? "" : "?"}: ${typeOf(schema)},${comment}`;
  });
  return `<h4>Answer: data</h4><pre tabindex="0"><code>{\n${escapeHtml(lines.join("\n"))}\n}</code></pre>`;
}

function rowsOf(schema: Json): Row[] {
  const required = new Set((schema["required"] as string[] | undefined) ?? []);
  return Object.entries(object(schema["properties"])).map(([name, property]) => ({
    name,
    required: required.has(name) && !("default" in object(property)),
    schema: object(property),
  }));
}

function typeOf(schema: Json): string {
  if (Array.isArray(schema["enum"]))
    return (schema["enum"] as unknown[]).map(String).join(" | ").slice(0, 200);
  if ("const" in schema) return JSON.stringify(schema["const"]);
  const ways = (schema["anyOf"] ?? schema["oneOf"]) as Json[] | undefined;
  if (ways) return [...new Set(ways.map(typeOf))].join(" | ");
  const type = schema["type"];
  if (type === "array") return `${typeOf(object(schema["items"]))}[]`;
  return Array.isArray(type) ? type.join(" | ") : String(type ?? "any");
}

function describe(schema: Json): string {
  const parts = [typeof schema["description"] === "string" ? schema["description"] : ""];
  if (schema["default"] !== undefined) parts.push(`Default: \`${JSON.stringify(schema["default"])}\``);
  const inside = object(schema["type"] === "array" ? schema["items"] : schema)["properties"];
  const names = Object.keys(object(inside));
  if (names.length > 0) parts.push(`Holds ${names.map((name) => `\`${name}\``).join(", ")}`);
  return parts.filter((part) => part !== "").join(". ");
}

function short(path: string): string {
  return path.replace(/^\/api/, "") || "/";
}

function paragraphs(markdown: string): string {
  return markdown
    .split("\n\n")
    .map((one) => `<p>${text(one)}</p>`)
    .join("\n");
}

/** Plain text as HTML; a part in backticks becomes `<code>`. */
function text(plain: string): string {
  return escapeHtml(plain).replace(/`([^`]+)`/g, "<code>$1</code>");
}

function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}
