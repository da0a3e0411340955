import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadKeyFile, saveKeyFile } from "@formation-mcp/auth/key-file";
import { generateKey, KEY_KINDS, keyId } from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "key-file-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const code = async (action: Promise<unknown>): Promise<unknown> => {
  try {
    await action;
  } catch (error) {
    expect(error).toBeInstanceOf(FormationError);
    return (error as FormationError).code;
  }
  return "ok";
};
/** The least cost of scrypt that a key file may have. */
const TEST_COST = { scryptN: 2 ** 14 };
const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe.each(KEY_KINDS)("a %s key", (kind) => {
  it("comes back from its file, which only its owner can read", async () => {
    const key = generateKey(kind);
    const path = join(directory, "deep", "down", "key.json");
    await saveKeyFile(path, key);
    expect(mode(path)).toBe("600");
    expect(mode(join(directory, "deep"))).toBe("700");
    const loaded = await loadKeyFile(path);
    expect(loaded.toJSON()).toEqual(key.toJSON());
    expect(loaded.revealPrivate()).toBe(key.revealPrivate());
    expect(readdirSync(join(directory, "deep", "down"))).toEqual(["key.json"]);
  });

  it("sealed with a passphrase comes back with it alone, and its file does not hold it", async () => {
    const key = generateKey(kind);
    const path = join(directory, "key.json");
    await saveKeyFile(path, key, { passphrase: "correct horse", ...TEST_COST });
    const text = readFileSync(path, "utf8");
    expect(text).not.toContain(key.revealPrivate());
    expect(text).toContain(keyId(key));
    expect((await loadKeyFile(path, { passphrase: "correct horse" })).revealPrivate()).toBe(
      key.revealPrivate(),
    );
    expect(await code(loadKeyFile(path, { passphrase: "correct hors" }))).toBe("unauthenticated");
    expect(await code(loadKeyFile(path))).toBe("unauthenticated");
  });
});

it("a passphrase is the same word however its letters are composed", async () => {
  const path = join(directory, "key.json");
  const key = generateKey("ed25519");
  await saveKeyFile(path, key, { passphrase: "caf\u00e9", ...TEST_COST });
  expect(keyId(await loadKeyFile(path, { passphrase: "cafe\u0301" }))).toBe(keyId(key));
});

it("a key is sealed at the cost that OWASP asks for, unless another one in range is asked for", async () => {
  const path = join(directory, "key.json");
  const key = generateKey("ed25519");
  await saveKeyFile(path, key, { passphrase: "correct horse" });
  const { sealed } = JSON.parse(readFileSync(path, "utf8")) as { sealed: object };
  expect(sealed).toMatchObject({ kdf: "scrypt", n: 2 ** 17, r: 8, p: 1 });
  expect(keyId(await loadKeyFile(path, { passphrase: "correct horse" }))).toBe(keyId(key));
  for (const scryptN of [0, 2 ** 13, 2 ** 14 + 1, 2 ** 19, Number.NaN]) {
    const other = join(directory, "other.json");
    expect(await code(saveKeyFile(other, key, { passphrase: "correct horse", scryptN }))).toBe("invalid");
  }
  expect(readdirSync(directory)).toEqual(["key.json"]);
});

it("a file that is there is overwritten only if that is asked for, and then whole", async () => {
  const path = join(directory, "key.json");
  const [first, second] = [generateKey("ed25519"), generateKey("secp256k1")];
  await saveKeyFile(path, first);
  expect(await code(saveKeyFile(path, second))).toBe("conflict");
  expect(keyId(await loadKeyFile(path))).toBe(keyId(first));
  await saveKeyFile(path, second, { overwrite: true });
  expect(keyId(await loadKeyFile(path))).toBe(keyId(second));
  expect(mode(path)).toBe("600");
  expect(readdirSync(directory)).toEqual(["key.json"]);
});

it("a link that somebody laid at the name is not followed", async () => {
  const victim = join(directory, "victim");
  writeFileSync(victim, "precious");
  symlinkSync(victim, join(directory, "key.json"));
  expect(await code(saveKeyFile(join(directory, "key.json"), generateKey("ed25519")))).toBe("conflict");
  await saveKeyFile(join(directory, "key.json"), generateKey("ed25519"), { overwrite: true });
  expect(readFileSync(victim, "utf8")).toBe("precious");
});

describe("a file that others may use", () => {
  it.each([0o640, 0o604, 0o620, 0o602, 0o644, 0o660])(
    "is refused with its remedy (mode %o)",
    async (bits) => {
      const path = join(directory, "key.json");
      await saveKeyFile(path, generateKey("ed25519"));
      chmodSync(path, bits);
      const error = await loadKeyFile(path).catch((thrown: unknown) => thrown as FormationError);
      expect(error).toMatchObject({ code: "forbidden" });
      expect((error as FormationError).details.remedy).toContain(`chmod 600 ${path}`);
    },
  );

  it("is taken if it is sealed", async () => {
    const path = join(directory, "key.json");
    await saveKeyFile(path, generateKey("ed25519"), { passphrase: "x y z", ...TEST_COST });
    chmodSync(path, 0o644);
    expect(await code(loadKeyFile(path, { passphrase: "x y z" }))).toBe("ok");
  });
});

it("a file with a key as people have it is read too", async () => {
  const key = generateKey("secp256k1");
  const path = join(directory, "plain");
  writeFileSync(path, `${key.revealPrivate()}\n`, { mode: 0o600 });
  expect(keyId(await loadKeyFile(path))).toBe(keyId(key));
});

describe("a damaged file", () => {
  const changed = async (alter: (file: Record<string, unknown>) => void, passphrase?: string) => {
    const path = join(directory, "key.json");
    await saveKeyFile(
      path,
      generateKey("ed25519"),
      passphrase === undefined ? {} : { passphrase, ...TEST_COST },
    );
    const file = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    alter(file);
    writeFileSync(path, JSON.stringify(file));
    return await code(loadKeyFile(path, passphrase === undefined ? {} : { passphrase }));
  };
  const sealed = (file: Record<string, unknown>) => file["sealed"] as Record<string, unknown>;

  it("of another version, kind, id or key is refused", async () => {
    expect(await changed((file) => Object.assign(file, { formation_key: 2 }))).toBe("invalid");
    rmSync(join(directory, "key.json"));
    expect(await changed((file) => Object.assign(file, { kind: "rsa" }))).toBe("invalid");
    rmSync(join(directory, "key.json"));
    expect(await changed((file) => Object.assign(file, { kind: "secp256k1" }))).toBe("invalid");
    rmSync(join(directory, "key.json"));
    expect(await changed((file) => Object.assign(file, { private_key: "1".repeat(64) }))).toBe("invalid");
  });

  it("whose seal says what it was not sealed with is refused, before it costs anything", async () => {
    const started = process.memoryUsage().rss;
    const costly = (file: Record<string, unknown>) => Object.assign(sealed(file), { n: 2 ** 30 });
    expect(await changed(costly, "pass")).toBe("invalid");
    expect(process.memoryUsage().rss - started).toBeLessThan(600 * 2 ** 20);
    rmSync(join(directory, "key.json"));
    expect(await changed((file) => Object.assign(file, { id: "key:other" }), "pass")).toBe("unauthenticated");
    rmSync(join(directory, "key.json"));
    expect(await changed((file) => Object.assign(sealed(file), { tag: "AAAA" }), "pass")).toBe(
      "unauthenticated",
    );
  });

  it.each(["", "{", "null", "[]", '{"formation_key":1}', "\0\0\0"])(
    "that holds %j is refused",
    async (text) => {
      const path = join(directory, "key.json");
      writeFileSync(path, text, { mode: 0o600 });
      expect(await code(loadKeyFile(path))).toBe("invalid");
    },
  );
});

it("what is no file of a key's size is not read", async () => {
  expect(await code(loadKeyFile(join(directory, "nothing")))).toBe("not_found");
  expect(await code(loadKeyFile(directory))).toBe("unavailable");
  const big = join(directory, "big");
  writeFileSync(big, "1".repeat(70_000), { mode: 0o600 });
  expect(await code(loadKeyFile(big))).toBe("unavailable");
  const pipe = join(directory, "pipe");
  execFileSync("mkfifo", ["-m", "600", pipe]);
  expect(await code(loadKeyFile(pipe))).toBe("unavailable");
});

it("an empty passphrase seals nothing, and is refused", async () => {
  const path = join(directory, "key.json");
  expect(await code(saveKeyFile(path, generateKey("ed25519"), { passphrase: "" }))).toBe("invalid");
  expect(readdirSync(directory)).toEqual([]);
});
