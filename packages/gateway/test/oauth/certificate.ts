// A self-signed certificate for `localhost`, new for each run: just enough DER (X.690) for X.509 (RFC 5280).

import { createSign, generateKeyPairSync, randomBytes } from "node:crypto";

const OID = {
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
  commonName: [0x55, 0x04, 0x03],
  subjectAltName: [0x55, 0x1d, 0x11],
  basicConstraints: [0x55, 0x1d, 0x13],
};

function der(tag: number, ...parts: (Buffer | readonly number[])[]): Buffer {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const { length } = body;
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...head]), body]);
}

const sequence = (...parts: Buffer[]) => der(0x30, ...parts);
const oid = (bytes: readonly number[]) => der(0x06, bytes);
const text = (tag: number, value: string) => der(tag, Buffer.from(value));
const time = (at: Date) => text(0x18, `${at.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`);

/** PEM of a new key and of its certificate for `localhost` and 127.0.0.1, good for a day. */
export function selfSigned(): { key: string; cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const name = sequence(der(0x31, sequence(oid(OID.commonName), text(0x0c, "localhost"))));
  const names = sequence(text(0x82, "localhost"), der(0x87, [127, 0, 0, 1]));
  const day = 86_400_000;
  const certificate = sequence(
    der(0xa0, der(0x02, [2])),
    der(0x02, [1], randomBytes(8)),
    algorithm,
    name,
    sequence(time(new Date(Date.now() - day)), time(new Date(Date.now() + day))),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      0xa3,
      sequence(
        sequence(oid(OID.subjectAltName), der(0x04, names)),
        sequence(oid(OID.basicConstraints), der(0x01, [0xff]), der(0x04, sequence(der(0x01, [0xff])))),
      ),
    ),
  );
  const signature = createSign("sha256").update(certificate).sign(privateKey);
  const whole = sequence(certificate, algorithm, der(0x03, [0], signature)).toString("base64");
  const lines = whole.match(/.{1,64}/g) ?? [];
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`,
  };
}
