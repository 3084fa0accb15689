/** Task `abi`: ABI and code of the contracts as committed JSON, so that Python needs no compiler. */

import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import type { HardhatRuntimeEnvironment } from "hardhat/types/hre";

const CONTRACTS = [
  "AccessManager",
  "AnyToken",
  "Faucet",
  "JobEscrow",
  "MinerRegistry",
  "RewardDistributor",
  "StakeManager",
  "VerifierSet",
];

const FOLDER = "contracts/anynode_contracts/abi";

/** Writes one JSON file per contract, or with `check` compares them and sets a non-zero exit code on a difference. */
export default async function abi({ check }: { check: boolean }, hre: HardhatRuntimeEnvironment): Promise<void> {
  await hre.tasks.getTask("build").run({ quiet: true, noTests: true });
  const target = path.resolve(hre.config.paths.root, FOLDER);
  const fresh = new Map<string, string>();
  for (const name of CONTRACTS) fresh.set(`${name}.json`, await render(hre, name));
  if (check) {
    await compare(target, fresh);
  } else {
    await rewrite(target, fresh);
  }
}

async function render(hre: HardhatRuntimeEnvironment, name: string): Promise<string> {
  const { abi, bytecode, deployedBytecode, immutableReferences } = await hre.artifacts.readArtifact(name);
  const immutables = Object.values(immutableReferences ?? {})
    .flat()
    .map(({ start, length }) => [start, length] as const)
    .sort(([one], [other]) => one - other);
  const places = immutables.map(([start, length]) => `${start}+${length}`).join(" ");
  return `${JSON.stringify({ name, abi, bytecode, runtime: deployedBytecode, immutables: places }, null, 1)}\n`;
}

async function compare(target: string, fresh: Map<string, string>): Promise<void> {
  const committed = await jsonFiles(target);
  const stale = committed.filter((file) => !fresh.has(file));
  for (const [file, text] of fresh) {
    if (!committed.includes(file) || (await readFile(path.join(target, file), "utf8")) !== text) stale.push(file);
  }
  if (stale.length === 0) {
    console.log(`ABI: ${fresh.size} files match the sources`);
    return;
  }
  console.error(`ABI out of date: ${stale.sort().join(", ")}; run "npm run build" and commit the result`);
  process.exitCode = 1;
}

async function rewrite(target: string, fresh: Map<string, string>): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const file of await jsonFiles(target)) if (!fresh.has(file)) await rm(path.join(target, file));
  for (const [file, text] of fresh) await writeFile(path.join(target, file), text);
  console.log(`ABI: wrote ${fresh.size} files`);
}

async function jsonFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  return names.filter((name) => name.endsWith(".json"));
}
