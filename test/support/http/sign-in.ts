// What a person does on the pages of the server: signs with the wallet, reads what is requested, consents. An
// error in the console or a request to a third party makes the sign-in fail.

import type { KeyPair } from "@formation-mcp/auth/keys";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { giveWallet } from "./browser.ts";
import type { Person } from "./host.ts";

const LIMIT = { timeout: 30_000 };

/** A person with a separate browser profile, who stays signed in between visits. */
export interface Visitor {
  /** Signs in if asked, consents, and ends at the redirect URI of the client. */
  goes: Person;
  /** The titles of all pages seen. */
  seen: string[];
  /** The request on each consent page. */
  asked: string[];
  close(): Promise<void>;
}

export async function newVisitor(browser: Browser, key: KeyPair): Promise<Visitor> {
  const context = await browser.newContext();
  await giveWallet(context, key);
  const seen: string[] = [];
  const asked: string[] = [];
  return { goes: (url) => walk(context, url, seen, asked), seen, asked, close: () => context.close() };
}

/** One visit of a new person. */
export async function signInAndConsent(browser: Browser, url: URL, key: KeyPair): Promise<void> {
  const visitor = await newVisitor(browser, key);
  await visitor.goes(url);
  await visitor.close();
}

async function walk(context: BrowserContext, url: URL, seen: string[], asked: string[]): Promise<void> {
  const page = await context.newPage();
  const complaints: string[] = [];
  const back = url.searchParams.get("redirect_uri") ?? "";
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && page.url().startsWith(url.origin)) {
      complaints.push(`${message.text()} ${message.location().url}`);
    }
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    const { origin } = new URL(request.url());
    if (origin !== url.origin && !request.url().startsWith(back)) complaints.push(`asked ${request.url()}`);
  });
  // The client may close its server as soon as it has the code, before the browser has an answer.
  const home = page.waitForRequest((request) => request.url().startsWith(back), LIMIT);
  home.catch(() => {}); // told below
  await page.goto(url.href, LIMIT);
  if (isAt(page, "/auth/login/")) {
    seen.push(await page.title());
    await page.getByRole("button", { name: "Sign with wallet" }).click(LIMIT);
    await page.waitForURL((at) => !at.pathname.startsWith("/auth/login/"), { ...LIMIT, waitUntil: "commit" });
  }
  if (isAt(page, "/auth/consent/")) {
    seen.push(await page.title());
    asked.push((await page.getByRole("listitem").allInnerTexts()).join("\n"));
    await page.getByRole("button", { name: "Allow", exact: true }).click(LIMIT);
  }
  await (await home).response();
  // Not awaited: a page that just began to navigate may take a while to close, and its context closes it
  // anyway.
  page.close().catch(() => {});
  if (complaints.length > 0) throw new Error(`The pages complained:\n${complaints.join("\n")}`);
}

function isAt(page: Page, path: string): boolean {
  return new URL(page.url()).pathname.startsWith(path);
}
