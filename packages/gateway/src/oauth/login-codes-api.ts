// What `formation-mcp login <code>` talks to: it learns what a code stands for, gets the message, and brings it back signed.

import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, FormationError } from "@formation-mcp/contract";
import type { Provider } from "oidc-provider";
import type { LoginCodes } from "./login-codes.ts";
import { jsonObject, nothingHere, sendJson } from "./node-http.ts";
import { findClientDisplay } from "./provider/clients.ts";
import { knownScopes, SCOPE_TEXTS } from "./provider/scopes.ts";
import { type SignIn, statementFor } from "./sign-in.ts";

/** One request for a code. */
export interface CodeRequest {
  provider: Provider;
  original: IncomingMessage;
  response: ServerResponse;
  body: Buffer;
  code: string;
  below: string | undefined;
}

export interface LoginCodesApiOptions {
  issuer: string;
  clock: Clock;
  codes: LoginCodes;
  signIn: SignIn;
}

/** Serves `GET /auth/codes/{code}`, `POST …/challenge` and `POST /auth/codes/{code}`. */
export function createLoginCodesApi(options: LoginCodesApiOptions): (asked: CodeRequest) => Promise<void> {
  const { issuer, clock, codes, signIn } = options;
  return async ({ provider, original, response, body, code, below }) => {
    const subject = await codes.read(code);
    const face = await findClientDisplay(provider, subject.clientId, subject.redirectUri);
    const scopes = knownScopes(subject.scope);
    const { method } = original;
    if (method === "GET" && below === undefined) {
      const { name, verifiedHost, redirect } = face;
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
        statement: statementFor(face, scopes),
        expires_in: Math.max(0, Math.floor((subject.expiresAt - clock.now()) / 1000)),
      });
    } else if (method === "POST" && below === "challenge") {
      const { address } = jsonObject(original, body);
      sendJson(response, 200, await signIn.challenge(subject.uid, address, face, scopes));
    } else if (method === "POST" && below === undefined) {
      const by = await signIn.verify(subject.uid, jsonObject(original, body));
      await codes.sign(code, by);
      const { owner, key } = by;
      sendJson(response, 200, { status: "signed", owner, key, returns_to: face.redirect.label });
    } else {
      throw nothingHere();
    }
  };
}

/** Whether somebody tried a code that there is not. */
export function isGuess(error: unknown): boolean {
  return error instanceof FormationError && error.details.field === "code";
}
