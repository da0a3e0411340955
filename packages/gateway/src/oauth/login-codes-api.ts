// The API of login codes, for `formation-mcp login <code>`: what a code stands for, the message to sign, and
// the signature.

import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, FormationError } from "@formation-mcp/contract";
import type { Provider } from "oidc-provider";
import type { LoginCodes } from "./login-codes.ts";
import { jsonObject, notFound, sendJson } from "./node-http.ts";
import { findClientDisplay } from "./provider/clients.ts";
import { knownScopes, SCOPE_TEXTS } from "./provider/scopes.ts";
import { type SignIn, statementFor } from "./sign-in.ts";

/** One request about a login code. */
export interface LoginCodeRequest {
  provider: Provider;
  original: IncomingMessage;
  response: ServerResponse;
  body: Buffer;
  code: string;
  below: string | undefined;
}

export interface LoginCodesApiDeps {
  issuer: string;
  clock: Clock;
  codes: LoginCodes;
  signIn: SignIn;
}

/** Serves `GET /auth/codes/{code}`, `POST …/challenge` and `POST /auth/codes/{code}`. */
export function createLoginCodesApi(deps: LoginCodesApiDeps): (request: LoginCodeRequest) => Promise<void> {
  const { issuer, clock, codes, signIn } = deps;
  return async ({ provider, original, response, body, code, below }) => {
    const subject = await codes.read(code);
    const display = await findClientDisplay(provider, subject.clientId, subject.redirectUri);
    const scopes = knownScopes(subject.scope);
    const { method } = original;
    if (method === "GET" && below === undefined) {
      const { name, verifiedHost, redirect } = display;
      sendJson(response, 200, {
        server: issuer,
        client: {
          id: subject.clientId,
          name,
          verified_host: verifiedHost,
          returns_to: redirect.label,
          local: redirect.kind !== "web",
        },
        scopes: scopes.map((scope) => {
          const { title, detail } = SCOPE_TEXTS[scope];
          return { scope, title, detail };
        }),
        statement: statementFor(display, scopes),
        expires_in: Math.max(0, Math.floor((subject.expiresAt - clock.now()) / 1000)),
      });
    } else if (method === "POST" && below === "challenge") {
      const { address } = jsonObject(original, body);
      sendJson(response, 200, await signIn.challenge(subject.uid, address, display, scopes));
    } else if (method === "POST" && below === undefined) {
      const by = await signIn.verify(subject.uid, jsonObject(original, body));
      await codes.sign(code, by);
      const { owner, key } = by;
      sendJson(response, 200, { status: "signed", owner, key, returns_to: display.redirect.label });
    } else {
      throw notFound();
    }
  };
}

/** Whether the error is about the code itself: it does not exist, or it is signed already. */
export function isGuess(error: unknown): boolean {
  return error instanceof FormationError && error.details.field === "code";
}
