import {
  allScopes,
  localPrincipal,
  type Principal,
  parseScopes,
  requireScope,
  SCOPES,
} from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { expect, it } from "vitest";

const scope = fc.constantFrom(...SCOPES);

it("the local user is an owner of its own with every scope but admin", () => {
  const principal = localPrincipal(1000);
  expect(principal.owner).toBe("local:1000");
  expect(principal.local).toBe(true);
  expect([...principal.scopes].sort()).toEqual(SCOPES.filter((name) => name !== "admin").sort());
});

it("a call goes on with its scope or with admin, and is forbidden without", () => {
  fc.assert(
    fc.property(fc.uniqueArray(scope), scope, (held, needed) => {
      const principal: Principal = { owner: "local:1", scopes: new Set(held), local: false };
      if (held.includes(needed) || held.includes("admin")) return requireScope(principal, needed);
      expect(() => requireScope(principal, needed)).toThrow(
        expect.objectContaining({ code: "forbidden", message: expect.stringContaining(needed) }),
      );
    }),
  );
});

it("what to do about a missing scope is said for the door at which the caller stands", () => {
  const remedyFor = (local: boolean) => {
    try {
      requireScope({ owner: "x", scopes: new Set(), local }, "vm:write");
    } catch (error) {
      return String((error as FormationError).details.remedy);
    }
    return "";
  };
  expect(remedyFor(true)).toContain("--scopes");
  expect(remedyFor(false)).toMatch(/token that has vm:write.*admin/);
  expect(remedyFor(false)).not.toContain("--");
});

it("scopes are read from any list of them", () => {
  fc.assert(
    fc.property(fc.uniqueArray(scope), fc.constantFrom(",", " ", ", ", "\n"), (names, separator) => {
      expect([...parseScopes(names.join(separator))]).toEqual(names);
    }),
  );
});

it("a scope that does not exist is refused by name, with those that do", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z:*]{1,60}$/), (name) => {
      fc.pre(!(SCOPES as readonly string[]).includes(name));
      try {
        parseScopes(name);
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(FormationError);
        expect((error as FormationError).code).toBe("invalid");
        expect((error as FormationError).details.remedy).toContain("pack:read");
      }
    }),
  );
});

it("every set of all scopes is a new one: nobody widens another's", () => {
  expect(allScopes()).not.toBe(allScopes());
  expect(allScopes().has("admin")).toBe(false);
});
