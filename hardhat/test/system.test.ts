/** What crosses contracts: roles in separate custody, signatures made by a wallet library, a job's whole way. */

import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import hre from "hardhat";
import { decodeEventLog, getAddress, keccak256, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { selectors } from "../ignition/plan.js";
import { type Entry, pack } from "./merkle.js";
import { type Key, signedClaim, signedPermit, signedRegistration } from "./signatures.js";
import {
  BOUNTY,
  DATA_HASH,
  deploySystem,
  enroll,
  GWEI,
  postRoot,
  type System,
  totalOf,
  treeOf,
  WINDOW,
} from "./system.js";

const connection = await hre.network.create();
const { time } = connection.networkHelpers;
const JOB = keccak256(toHex("job"));
const DAY = 24 * 3600;

/** The call fails with this custom error. */
async function refused(call: Promise<unknown>, error: string): Promise<void> {
  await assert.rejects(call, (failure: Error) => {
    assert.match(failure.message, new RegExp(error));
    return true;
  });
}

type RoleHolder = "poster" | "guardian" | "settler" | "slasher" | "arbiter" | "admin" | "stranger";

/** `name` may call what its own role allows, and nothing that belongs to another. */
async function refusedEverythingElse(system: System, name: RoleHolder) {
  const { distributor, escrow, stakes } = system;
  const account = system[name].account;
  const calls: Record<string, () => Promise<unknown>> = {
    poster: () => distributor.write.postRoot([1n, DATA_HASH, 0n, DATA_HASH, []], { account }),
    guardian: () => distributor.write.veto({ account }),
    settler: () => escrow.write.finalise([JOB, 0n], { account }),
    slasher: () => stakes.write.proposeSlash([1, 1n, JOB, system.owner.account.address, JOB], { account }),
    arbiter: () => stakes.write.rule([1n, true], { account }),
  };
  for (const [role, call] of Object.entries(calls)) {
    if (role !== name) await refused(call(), "AccessManagedUnauthorized");
  }
}

describe("the system", () => {
  let system: System;
  let verifiers: Key[];

  beforeEach(async () => {
    system = await connection.networkHelpers.loadFixture(deploy);
  });

  async function openJob(budget: bigint): Promise<void> {
    verifiers = await enroll(system, 2);
    const deadline = BigInt(await time.latest()) + BigInt(DAY);
    await system.escrow.write.create([JOB, budget, budget, deadline], { account: system.owner.account });
  }

  async function post(batch: bigint, entries: Entry[]): Promise<void> {
    await postRoot(system, verifiers, batch, treeOf(system, entries).root, totalOf(entries));
  }

  it("takes a job's tokens to its miners and the rest back", async () => {
    const { distributor, escrow, owner, settler, stranger, token } = system;
    await openJob(1000n * GWEI);
    const accounts = [1, 2, 3].map((i) => privateKeyToAccount(toHex(i, { size: 32 })).address);
    const entries = accounts.map((account, i) => ({ index: i + 1, account, cumulativeGwei: BigInt(100 * (i + 1)) }));
    const tree = treeOf(system, entries);

    await refused(post(1n, entries), "NotFunded");
    await escrow.write.draw([JOB, 1n, 600n * GWEI], { account: settler.account });
    await post(1n, entries);
    await escrow.write.finalise([JOB, 1n], { account: settler.account });
    await refused(escrow.write.refund([JOB]), "RefundTooEarly");
    await refused(distributor.write.claim([pack(entries[0]!), tree.proof(0)]), "InvalidProof");

    await time.increase(WINDOW);
    await distributor.write.claim([pack(entries[2]!), tree.proof(2)], { account: stranger.account });
    await distributor.write.claimSubtree([[...entries.map(pack), `0x${"00".repeat(32)}`], []]);
    for (const { account, cumulativeGwei } of entries) {
      assert.equal(await token.read.balanceOf([account]), cumulativeGwei * GWEI);
    }
    const before = await token.read.balanceOf([owner.account.address]);
    await escrow.write.refund([JOB]);
    assert.equal((await token.read.balanceOf([owner.account.address])) - before, 400n * GWEI);
    assert.equal(await token.read.balanceOf([escrow.address]), 0n);
    assert.equal(await token.read.balanceOf([distributor.address]), BOUNTY, "nothing but the bond");
  });

  it("lets each role do its own and nothing else", async () => {
    for (const name of ["poster", "guardian", "settler", "slasher", "arbiter", "admin", "stranger"] as const) {
      await refusedEverythingElse(system, name);
    }
  });

  it("makes the admin wait in the open", async () => {
    const { authority, admin, stranger, distributor } = system;
    await authority.write.grantRole([0n, admin.account.address, 2 * DAY]);
    await refused(authority.write.grantRole([1n, stranger.account.address, 0]), "AccessManagerNotScheduled");
    const selector = selectors("RewardDistributor", ["postRoot"]);
    await refused(
      authority.write.setTargetFunctionRole([distributor.address, selector, 2n]),
      "AccessManagerNotScheduled",
    );
  });

  it("pays a redirected claim that a wallet signed", async () => {
    const { distributor, escrow, settler, stranger, token } = system;
    await openJob(1000n * GWEI);
    const account = privateKeyToAccount(generatePrivateKey());
    const entries = [{ index: 1, account: account.address, cumulativeGwei: 7n }];
    await escrow.write.draw([JOB, 1n, 7n * GWEI], { account: settler.account });
    await post(1n, entries);
    await time.increase(WINDOW);
    const entry = pack(entries[0]!);
    const deadline = BigInt(await time.latest()) + 100n;
    const to = stranger.account.address;
    const signature = await signedClaim(distributor.address, account, entry, to, deadline);
    const hash = await distributor.write.claimWithSig([entry, [], to, deadline, signature]);
    assert.equal(await token.read.balanceOf([to]), 7n * GWEI);
    const { logs } = await system.client.getTransactionReceipt({ hash });
    const events = logs
      .filter((log) => log.address === distributor.address.toLowerCase())
      .map((log) => decodeEventLog({ abi: distributor.abi, ...log }));
    assert.deepEqual(
      events.map(({ eventName }) => eventName),
      ["Claimed", "Redirected"],
    );
  });

  it("registers a node that has nothing, paid by somebody else", async () => {
    const { registry, stranger } = system;
    const node = privateKeyToAccount(generatePrivateKey());
    const deadline = BigInt(await time.latest()) + 100n;
    const payout = stranger.account.address;
    const { message, signature } = await signedRegistration(registry.address, node, payout, deadline);
    await registry.write.registerMany([[message], [signature]], { account: stranger.account });
    assert.equal(await registry.read.indexOf([node.address]), 1);
    assert.deepEqual(await registry.read.infoOf([1]), [node.address, getAddress(payout)]);
  });

  it("has a token of fixed supply with permit", async () => {
    const { token, escrow } = system;
    assert.equal(await token.read.totalSupply(), 10n ** 27n);
    assert.equal(await token.read.totalSupply(), await token.read.SUPPLY());
    const holder = privateKeyToAccount(generatePrivateKey());
    const deadline = BigInt(await time.latest()) + 100n;
    const permit = await signedPermit(token.address, holder, escrow.address, 5n, deadline);
    await token.write.permit([holder.address, escrow.address, 5n, ...permit]);
    assert.equal(await token.read.allowance([holder.address, escrow.address]), 5n);
  });
});

async function deploy(): Promise<System> {
  return deploySystem(connection);
}
