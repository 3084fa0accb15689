/** What a settings file may not say: one key in several roles, where that is not a development chain. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { checkCustody } from "../ignition/plan.js";

const ROLES = ["holder", "poster", "guardian", "settler", "slasher", "arbiter", "admin"];
const APART = ["poster", "guardian", "slasher", "arbiter", "admin"];

/** Each role with an address of its own, but for what `same` says. */
function roles(same: Record<string, string> = {}): Record<string, string> {
  return Object.fromEntries(ROLES.map((role) => [role, `0x${same[role] ?? role}`]));
}

describe("the settings of a deployment", () => {
  it("name five roles with a key of their own each", () => {
    checkCustody(roles(), 1);
    for (const one of APART) {
      for (const other of APART.filter((role) => role > one)) {
        const shared = roles({ [one]: other });
        const refused = new RegExp(`settings: \`.+\` and \`.+\` are both 0x${other}; .+`);
        assert.throws(() => checkCustody(shared, 1), refused, `${one} and ${other}`);
        checkCustody(shared, 31337);
      }
    }
  });

  it("may let the poster settle, and anybody hold the supply", () => {
    checkCustody(roles({ settler: "poster", holder: "admin" }), 1);
  });
});
