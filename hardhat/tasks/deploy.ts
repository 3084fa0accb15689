/** Task `deploy`: the whole system on any EVM chain, a record of it, and what an explorer needs to verify it. */

import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { Wallet } from "ethers";
import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";
import { createPublicClient, getAddress, getContractAddress, type Hex, http, keccak256 } from "viem";

import { BEFORE_AHEAD, checkCustody, DEVELOPMENT_CHAIN, HOLDERS, PLAN } from "../ignition/plan.js";

interface Arguments {
  rpc: string;
  keystore: string;
  passwordFile: string;
  settings: string;
}

/** What the settings file says, with the plan's own values where it says nothing. */
interface Settings {
  name: string;
  values: Record<string, string>;
}

/** One command; stopped anywhere, the same command goes on where it was. The key stays in this process's memory. */
export default async function deploy(given: Arguments, hre: HardhatRuntimeEnvironment): Promise<void> {
  const settings = parse(await text(given.settings));
  const client = createPublicClient({ transport: http(given.rpc) });
  const chainId = await client.getChainId();
  checkCustody(settings.values, chainId);
  const key = await unlock(given, hre);
  const deployer = new Wallet(key).address as Hex;
  if (getAddress(settings.values["admin"]!) === deployer) {
    throw new Error("the deployer cannot be the admin: its last step is to let go; name a Safe as admin");
  }
  await hre.tasks.getTask("build").run({ quiet: true, noTests: true });

  const id = `${settings.name}-${chainId}`;
  const folder = path.join(hre.config.paths.ignition, "deployments", id);
  const parameters = await parametersOf(folder, settings, async () => {
    const nonce = BigInt(await client.getTransactionCount({ address: deployer, blockTag: "pending" }));
    return getContractAddress({ from: deployer, nonce: nonce + BigInt(BEFORE_AHEAD) });
  });
  const connection = await hre.network.create({
    network: "deployment",
    override: { url: given.rpc, chainId, accounts: [key] },
  });
  const { default: module } = await import("../ignition/modules/AnyNode.js");
  const made = (await connection.ignition.deploy(module, {
    parameters: { AnyNode: parameters },
    deploymentId: id,
    config: chainId === DEVELOPMENT_CHAIN ? { requiredConfirmations: 1, blockPollingInterval: 100 } : {},
  })) as unknown as Record<string, { address: Hex }>;
  const addresses = Object.fromEntries(PLAN.contracts.map(({ name }) => [name, getAddress(made[name]!.address)]));

  const record = {
    name: settings.name,
    chain_id: chainId,
    deployer,
    deployed_block: await firstBlock(folder),
    contracts: await contractsOf(client, addresses, { ...parameters, deployer }),
    roles: Object.fromEntries(HOLDERS.slice(1).map((name) => [name, getAddress(parameters[name]!)])),
    settings: Object.fromEntries(Object.keys(PLAN.settings).map((name) => [name, parameters[name]])),
  };
  await write(folder, "record.json", record);
  await write(folder, "verification.json", await verification(hre));
  console.log(`record: ${path.join(folder, "record.json")}`);
  console.log(`verification: ${path.join(folder, "verification.json")}`);
}

async function text(file: string): Promise<string> {
  if (file === "") throw new Error("name the file of settings with --settings; docs/deploy.md says what is in it");
  return await readFile(file, "utf8");
}

function parse(text: string): Settings {
  const { name, ...rest } = JSON.parse(text) as Record<string, string>;
  if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(name ?? "")) throw new Error("settings: `name` has a-z, 0-9 and - only");
  const values: Record<string, string> = { ...PLAN.settings, ...rest };
  const known = [...HOLDERS, ...Object.keys(PLAN.settings)];
  const unknown = Object.keys(values).filter((key) => !known.includes(key));
  if (unknown.length > 0) throw new Error(`settings: nothing is called ${unknown.join(", ")}`);
  for (const [key, own] of Object.entries(PLAN.settings)) {
    // JSON's numbers are doubles: an amount in wei would arrive as another one.
    const given: unknown = values[key];
    if (typeof given !== "string" || !/^\d{1,78}$/.test(given)) {
      throw new Error(`settings: write \`${key}\` in digits and in quotes, like "${own}"`);
    }
  }
  for (const holder of HOLDERS) {
    if (values[holder] === undefined) throw new Error(`settings: name the address of \`${holder}\``);
    values[holder] = getAddress(values[holder]);
  }
  return { name: name!, values };
}

/** The deployer's key, from an encrypted keystore or typed in: never an argument, never in the environment. */
async function unlock(given: Arguments, hre: HardhatRuntimeEnvironment): Promise<Hex> {
  if (given.keystore === "") {
    const key = (await hre.interruptions.requestSecretInput("deploy", "private key of the deployer")).trim();
    return (key.startsWith("0x") ? key : `0x${key}`) as Hex;
  }
  const password =
    given.passwordFile === ""
      ? await hre.interruptions.requestSecretInput("deploy", `password of ${given.keystore}`)
      : (await readFile(given.passwordFile, "utf8")).replace(/\r?\n$/, "");
  return (await Wallet.fromEncryptedJson(await readFile(given.keystore, "utf8"), password)).privateKey as Hex;
}

/** The module's parameters, as they were when this deployment began: the address ahead follows from a nonce. */
async function parametersOf(
  folder: string,
  settings: Settings,
  ahead: () => Promise<Hex>,
): Promise<Record<string, string>> {
  const file = path.join(folder, "parameters.json");
  if (existsSync(file)) {
    const begun = JSON.parse(await readFile(file, "utf8")) as Record<string, string>;
    const differs = Object.keys(settings.values).filter((name) => begun[name] !== settings.values[name]);
    if (differs.length > 0) throw new Error(`${folder} was begun with another ${differs.join(", ")}; choose another name`);
    return begun;
  }
  const parameters = { ...settings.values, ahead: await ahead() };
  await write(folder, "parameters.json", parameters);
  return parameters;
}

async function contractsOf(
  client: ReturnType<typeof createPublicClient>,
  addresses: Record<string, Hex>,
  values: Record<string, string>,
) {
  const genesis = [{ holder: values["holder"]!, amountWei: PLAN.supply_wei }];
  const found: Record<string, { address: Hex; arguments: unknown[]; code_hash: Hex }> = {};
  for (const { name, arguments: names } of PLAN.contracts) {
    const address = addresses[name]!;
    const code = await client.getCode({ address });
    found[name] = {
      address,
      arguments: names.map((argument) => addresses[argument] ?? values[argument] ?? genesis),
      code_hash: keccak256(code ?? "0x"),
    };
  }
  return found;
}

/** The block of the first contract, from Ignition's own journal. */
async function firstBlock(folder: string): Promise<number> {
  const blocks: number[] = [];
  for (const line of (await readFile(path.join(folder, "journal.jsonl"), "utf8")).split("\n")) {
    if (line.trim() === "") continue;
    const entry = JSON.parse(line) as { type: string; receipt?: { blockNumber: number } };
    if (entry.type === "TRANSACTION_CONFIRM" && entry.receipt) blocks.push(entry.receipt.blockNumber);
  }
  return Math.min(...blocks);
}

/** The standard JSON of every contract's compilation, as explorers take it, and its fully qualified name. */
async function verification(hre: HardhatRuntimeEnvironment) {
  const found: Record<string, { name: string; compiler: string; input: unknown }> = {};
  for (const { name } of PLAN.contracts) {
    const artifact = await hre.artifacts.readArtifact(name);
    const buildId = await hre.artifacts.getBuildInfoId(`${artifact.sourceName}:${name}`);
    const file = await hre.artifacts.getBuildInfoPath(buildId!);
    const info = JSON.parse(await readFile(file!, "utf8")) as { solcLongVersion: string; input: unknown };
    const source = (artifact as { inputSourceName?: string }).inputSourceName ?? artifact.sourceName;
    found[name] = { name: `${source}:${name}`, compiler: `v${info.solcLongVersion}`, input: info.input };
  }
  return found;
}

async function write(folder: string, name: string, value: unknown): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, name), `${JSON.stringify(value, null, 1)}\n`);
}
