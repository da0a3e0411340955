// An https host that publishes client metadata documents, and counts the requests for them.

import type { ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { selfSigned } from "./certificate.ts";

export interface DocumentHost extends AsyncDisposable {
  /** `https://localhost:port`. */
  origin: string;
  ca: string;
  host: string;
  /** Paths that were read, in their order. */
  read: string[];
  /** Publishes a document; a function answers by itself. */
  publish(path: string, document: object | ((response: ServerResponse) => void)): string;
}

export async function openDocumentHost(): Promise<DocumentHost> {
  const { key, cert } = selfSigned();
  const documents = new Map<string, object | ((response: ServerResponse) => void)>();
  const read: string[] = [];
  const server = createServer({ key, cert }, (request, response) => {
    const path = request.url ?? "";
    read.push(path);
    const found = documents.get(path);
    if (typeof found === "function") found(response);
    else if (found) response.setHeader("content-type", "application/json").end(JSON.stringify(found));
    else response.writeHead(404).end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", () => done()));
  const host = `localhost:${(server.address() as AddressInfo).port}`;
  const origin = `https://${host}`;
  return {
    origin,
    ca: cert,
    host,
    read,
    publish(path, document) {
      documents.set(path, document);
      return `${origin}${path}`;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
