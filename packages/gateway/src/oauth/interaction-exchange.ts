// A request to a sign-in or consent page, and its response. It counts only from the browser that the
// interaction belongs to, and a form only from our own page.

import type { IncomingMessage, ServerResponse } from "node:http";
import { FormationError } from "@formation-mcp/contract";
import { errors, type Interaction, type Provider } from "oidc-provider";
import { send } from "./node-http.ts";
import type { Page } from "./pages/pages.ts";
import { type ClientDisplay, findClientDisplay } from "./provider/clients.ts";
import { formOf } from "./request-rewriting.ts";
import type { Secrets } from "./secrets.ts";

export interface InteractionExchange {
  provider: Provider;
  /** Sanitized, with its body read. */
  request: IncomingMessage;
  response: ServerResponse;
  body: Buffer;
  /** The client's address. */
  address: string;
}

/**
 * The interaction of this browser, if the URL names it.
 * @throws FormationError `not_found` if it has ended, is at another prompt, or belongs to another browser.
 */
export async function interactionOf(
  { provider, request, response }: InteractionExchange,
  uid: string,
  prompt: "login" | "consent",
): Promise<Interaction> {
  const found = await provider.interactionDetails(request, response).catch((error: unknown) => {
    if (error instanceof errors.SessionNotFound) throw interactionEnded();
    throw error;
  });
  if (found.uid !== uid || found.prompt.name !== prompt) throw interactionEnded();
  return found;
}

/** How the client of an interaction is shown. */
export function clientOf({ provider }: InteractionExchange, { params }: Interaction): Promise<ClientDisplay> {
  return findClientDisplay(provider, String(params["client_id"]), params["redirect_uri"]);
}

/** What a form needs to prove that it comes from our own page. */
export interface FormOrigin {
  /** The server's origin, as clients know it. */
  origin: string;
  secrets: Secrets;
}

/**
 * The fields of a form of our own page.
 * @throws FormationError `forbidden`
 */
export function readOwnForm(
  { request, body }: InteractionExchange,
  uid: string,
  own: FormOrigin,
): URLSearchParams {
  const form = formOf(request, body);
  if (!form) throw forged();
  requireOwnPage(request, uid, form.get("csrf"), own);
  return form;
}

/**
 * Checks Origin, Sec-Fetch-Site and the form token.
 * @throws FormationError `forbidden`
 */
export function requireOwnPage(
  { headers }: IncomingMessage,
  uid: string,
  token: unknown,
  { origin, secrets }: FormOrigin,
): void {
  const { origin: from = origin, "sec-fetch-site": site = "same-origin" } = headers;
  if (from !== origin || site !== "same-origin") throw forged();
  if (!secrets.isFormToken(uid, token)) throw forged();
}

/** Signs the browser out. */
export async function forgetSession(provider: Provider, { session }: Interaction): Promise<void> {
  const found = session && (await provider.Session.findByUid(session.uid));
  await found?.destroy();
}

/** The result that sends `access_denied` to the client. */
export function denied(description: string): { error: string; error_description: string } {
  return { error: "access_denied", error_description: description };
}

export function sendPage({ response }: InteractionExchange, page: Page, status: number): void {
  send(response, status, page.body, page.headers);
}

export function interactionEnded(): FormationError {
  return new FormationError("not_found", "This sign-in has ended, or it began in another browser.", {
    remedy: "Go back to the app and start again there.",
  });
}

function forged(): FormationError {
  return new FormationError("forbidden", "This form was not sent from its own page.", {
    remedy: "Go back to the app and start again there.",
  });
}
