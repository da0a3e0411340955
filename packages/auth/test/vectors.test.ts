import {
  checksumAddress,
  jwkThumbprint,
  keyFromPrivate,
  recoverAddress,
  verifyEd25519,
  verifyPersonal,
} from "@formation-mcp/auth/keys";
import { describe, expect, it } from "vitest";

const bytes = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const hex = (value: Uint8Array) => [...value].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const text = (value: string) => new TextEncoder().encode(value);

// RFC 8032 §7.1: secret key, public key, message, signature.
const RFC_8032 = [
  [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "",
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  ],
  [
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "72",
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  ],
  [
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "af82",
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  ],
] as const;

// https://eips.ethereum.org/EIPS/eip-55, "Test Cases".
const EIP_55 = [
  "0x52908400098527886E0F7030069857D2E4169EE7",
  "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
  "0xde709f2102306220921060314715629080e2fb77",
  "0x27b1fdb04752bbc536007a920d24acb045561c26",
  "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
  "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
  "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
  "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
];

// The example of web3.js' `eth.accounts.sign`, used as a vector by many libraries.
const PERSONAL = {
  key: "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318",
  address: "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23",
  message: "Some data",
  signature:
    "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c",
};

describe("published vectors", () => {
  it.each(RFC_8032)(
    "Ed25519 signs and verifies as RFC 8032 has it (%#)",
    (secret, key, message, signature) => {
      const pair = keyFromPrivate("ed25519", secret);
      expect(pair.public_key).toBe(key);
      expect(hex(pair.sign(bytes(message)))).toBe(signature);
      expect(verifyEd25519(bytes(key), bytes(message), bytes(signature))).toBe(true);
    },
  );

  it.each(EIP_55)("an address is spelt as EIP-55 has it: %s", (address) => {
    expect(checksumAddress(address)).toBe(address);
    expect(checksumAddress(address.toLowerCase())).toBe(address);
    expect(checksumAddress(address.slice(2).toUpperCase())).toBe(address);
  });

  it("personal_sign signs as wallets do", () => {
    const pair = keyFromPrivate("secp256k1", PERSONAL.key);
    expect(pair.address).toBe(PERSONAL.address);
    expect(hex(pair.sign(text(PERSONAL.message)))).toBe(PERSONAL.signature);
    expect(recoverAddress(text(PERSONAL.message), bytes(PERSONAL.signature))).toBe(PERSONAL.address);
    expect(verifyPersonal(PERSONAL.address, text(PERSONAL.message), bytes(PERSONAL.signature))).toBe(true);
  });

  it("the generator's address is the one everybody knows", () => {
    expect(keyFromPrivate("secp256k1", "1".padStart(64, "0")).address).toBe(
      "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    );
  });

  it("an Ed25519 key has RFC 8037's JSON and thumbprint", () => {
    const pair = keyFromPrivate("ed25519", RFC_8032[0][0]);
    expect(pair.publicJwk()).toEqual({
      kty: "OKP",
      crv: "Ed25519",
      x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    expect(pair.thumbprint).toBe("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  });

  it("a thumbprint is of the required members alone", () => {
    const jwk = keyFromPrivate("secp256k1", PERSONAL.key).publicJwk();
    const more = { kid: "other", ...jwk, use: "sig" };
    expect(jwkThumbprint(more)).toBe(jwkThumbprint(jwk));
  });
});
