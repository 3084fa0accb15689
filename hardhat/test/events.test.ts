/** Every balance of escrow and distributor from nothing but their own events: jobs, funds, bond, counters, accounts. */

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import hre from "hardhat";
import { type Address, getAddress, hexToBigInt, keccak256, parseEventLogs, sliceHex, toHex, zeroAddress } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { type Entry, pack } from "./merkle.js";
import { type Key, signedClaim } from "./signatures.js";
import { BOUNTY, deploySystem, enroll, GWEI, postRoot, type System, totalOf, treeOf, WINDOW } from "./system.js";

const connection = await hre.network.create();
const { time } = connection.networkHelpers;
const DAY = 24 * 3600;
const [FIRST, SECOND] = [keccak256(toHex("first")), keccak256(toHex("second"))];

/** What a reader of the log knows. Amounts are wei, but for `counters`, which are gwei. */
interface Rebuilt {
  escrow: Map<string, { funded: bigint; drawn: bigint; refunded: bigint }>;
  funded: bigint;
  bond: bigint;
  counters: Map<number, bigint>;
  accounts: Map<Address, bigint>;
  paid: bigint;
}

/** Folds the events of both contracts in the order of the chain. */
async function rebuild({ client, distributor, escrow }: System): Promise<Rebuilt> {
  const state: Rebuilt = {
    escrow: new Map(),
    funded: 0n,
    bond: 0n,
    counters: new Map(),
    accounts: new Map(),
    paid: 0n,
  };
  const give = (to: Address, wei: bigint) => state.accounts.set(to, (state.accounts.get(to) ?? 0n) + wei);
  const logs = await client.getLogs({ address: [distributor.address, escrow.address], fromBlock: 0n });
  for (const { eventName, args } of parseEventLogs({ abi: [...escrow.abi, ...distributor.abi], logs })) {
    if (eventName === "JobCreated") state.escrow.set(args.job, { funded: args.budgetWei, drawn: 0n, refunded: 0n });
    if (eventName === "JobFunded") state.escrow.get(args.job)!.funded += args.amountWei;
    if (eventName === "JobDrawn") state.escrow.get(args.job)!.drawn += args.amountWei;
    if (eventName === "JobRefunded") {
      state.escrow.get(args.job)!.refunded += args.amountWei;
      give(args.owner, args.amountWei);
    }
    if (eventName === "Funded") state.funded += args.amount;
    if (eventName === "Bonded") state.bond += args.amount;
    if (eventName === "FraudProven") {
      state.bond -= args.bountyWei;
      give(args.finder, args.bountyWei);
    }
    if (eventName === "Claimed") pay(state, args.entry, give);
    if (eventName === "SubtreeClaimed") for (const entry of args.entries) pay(state, entry, give);
    if (eventName === "Redirected") redirect(args.index, args.to, give);
  }
  return state;
}

let last: { account: Address; wei: bigint; index: number };

/** An entry was paid up to its cumulative amount, to its account. */
function pay(state: Rebuilt, entry: `0x${string}`, give: (to: Address, wei: bigint) => void): void {
  const index = Number(hexToBigInt(sliceHex(entry, 0, 4)));
  const cumulative = hexToBigInt(sliceHex(entry, 24));
  const wei = (cumulative - (state.counters.get(index) ?? 0n)) * GWEI;
  last = { account: getAddress(sliceHex(entry, 4, 24)), wei, index };
  state.counters.set(index, cumulative);
  state.paid += wei;
  give(last.account, wei);
}

/** The payment before went elsewhere. */
function redirect(index: number, to: Address, give: (to: Address, wei: bigint) => void): void {
  assert.equal(index, last.index);
  give(last.account, -last.wei);
  give(to, last.wei);
}

describe("events", () => {
  let system: System;
  let verifiers: Key[];
  const keys = Array.from({ length: 6 }, () => privateKeyToAccount(generatePrivateKey()));
  const finder = privateKeyToAccount(generatePrivateKey());

  const entriesOf = (batch: bigint): Entry[] =>
    keys.map((key, i) => ({ index: i + 1, account: key.address, cumulativeGwei: batch * BigInt(1000 + i) }));

  before(async () => {
    system = await deploySystem(connection);
    verifiers = await enroll(system, 2);
  });

  async function post(batch: bigint, entries: Entry[]): Promise<void> {
    await postRoot(system, verifiers, batch, treeOf(system, entries).root, totalOf(entries));
  }

  async function live(): Promise<void> {
    const { distributor, escrow, guardian, owner, settler } = system;
    const deadline = BigInt(await time.latest()) + BigInt(20 * DAY);
    for (const job of [FIRST, SECOND]) {
      await escrow.write.create([job, 10n ** 15n, 10n ** 14n, deadline], { account: owner.account });
    }
    await escrow.write.fund([FIRST, 77n], { account: owner.account });
    await distributor.write.fund([5n * GWEI], { account: owner.account });
    await distributor.write.bond([BOUNTY], { account: owner.account });
    await escrow.write.draw([FIRST, 1n, 9000n * GWEI], { account: settler.account });
    await post(1n, entriesOf(1n));
    await distributor.write.veto({ account: guardian.account });
    await post(1n, entriesOf(1n));
    await time.increase(WINDOW);
    const tree = treeOf(system, entriesOf(1n));
    await distributor.write.claim([pack(entriesOf(1n)[0]!), tree.proof(0)]);
    await distributor.write.claimSubtree([entriesOf(1n).slice(0, 4).map(pack), tree.proof(0, 2)]);
    await redirected(5, tree.proof(5));
    await escrow.write.draw([SECOND, 2n, 9000n * GWEI], { account: settler.account });
    await fraud();
    await refusedPush();
    await escrow.write.finalise([FIRST, 2n], { account: settler.account });
    await escrow.write.refund([FIRST]);
    await escrow.write.cancel([SECOND], { account: owner.account });
  }

  async function redirected(place: number, proof: `0x${string}`[]): Promise<void> {
    const [entry, to] = [pack(entriesOf(1n)[place]!), getAddress(system.stranger.account.address)];
    const deadline = BigInt(await time.latest()) + 100n;
    const signature = await signedClaim(system.distributor.address, keys[place]!, entry, to, deadline);
    await system.distributor.write.claimWithSig([entry, proof, to, deadline, signature]);
  }

  /** A root that lowers the first node is ended. */
  async function fraud(): Promise<void> {
    const { distributor } = system;
    const [honest, lie] = [entriesOf(1n), entriesOf(2n)];
    lie[0] = { ...lie[0]!, cumulativeGwei: 1n };
    await post(2n, lie);
    await connection.networkHelpers.setBalance(finder.address, 10n ** 18n);
    await connection.networkHelpers.impersonateAccount(finder.address);
    await distributor.write.proveDecrease(
      [
        { entry: pack(honest[0]!), proof: treeOf(system, honest).proof(0) },
        { entry: pack(lie[0]!), proof: treeOf(system, lie).proof(0) },
      ],
      { account: finder.address },
    );
  }

  /** One account of a push cannot be paid: it is skipped, and that is no payment. */
  async function refusedPush(): Promise<void> {
    const entries = entriesOf(2n);
    entries[1] = { ...entries[1]!, account: zeroAddress };
    await post(2n, entries);
    await time.increase(WINDOW);
    await system.distributor.write.claimSubtree([entries.slice(0, 4).map(pack), treeOf(system, entries).proof(0, 2)]);
  }

  it("are enough to rebuild every balance", async () => {
    const { distributor, escrow, owner, stranger, token } = system;
    const atFirst = await token.read.balanceOf([stranger.account.address]);
    await live();
    const state = await rebuild(system);
    let inEscrow = 0n;
    for (const [job, { funded, drawn, refunded }] of state.escrow) {
      const left = funded - drawn - refunded;
      assert.equal(left, await escrow.read.remainingWei([job as `0x${string}`]), `what is left of ${job}`);
      inEscrow += left;
    }
    assert.equal(state.escrow.size, 2);
    assert.equal(inEscrow, await token.read.balanceOf([escrow.address]), "what the escrow holds");
    assert.equal(state.funded, await distributor.read.fundedWei(), "funded");
    assert.equal(state.bond, await distributor.read.bondWei(), "bond");
    const held = await token.read.balanceOf([distributor.address]);
    assert.equal(state.funded - state.paid + state.bond, held, "what the distributor holds");
    for (const { index } of entriesOf(1n)) {
      assert.equal(state.counters.get(index) ?? 0n, await distributor.read.claimedGwei([index]), `counter of ${index}`);
    }
    for (const account of [...keys.map((key) => key.address), finder.address]) {
      assert.equal(state.accounts.get(account) ?? 0n, await token.read.balanceOf([account]), `account ${account}`);
    }
    const redirectedTo = getAddress(stranger.account.address);
    assert.equal(state.accounts.get(redirectedTo), (await token.read.balanceOf([redirectedTo])) - atFirst);
    assert.equal(state.accounts.get(finder.address), BOUNTY);
    assert.ok(state.accounts.get(getAddress(owner.account.address))! > 0n, "the first job's rest");
  });
});
