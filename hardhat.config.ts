/** Hardhat: compiles `contracts/src` with the locked compiler, without a download, and runs `hardhat/test`. */

import { createRequire } from "node:module";

import hardhatIgnitionViem from "@nomicfoundation/hardhat-ignition-viem";
import hardhatNetworkHelpers from "@nomicfoundation/hardhat-network-helpers";
import hardhatNodeTestRunner from "@nomicfoundation/hardhat-node-test-runner";
import hardhatViem from "@nomicfoundation/hardhat-viem";
import { defineConfig, task } from "hardhat/config";

const compiler = createRequire(import.meta.url).resolve("solc/soljson.js");

/** `FUZZ=long` runs the Solidity fuzz and invariant tests for minutes instead of seconds. */
const long = process.env["FUZZ"] === "long";

export default defineConfig({
  plugins: [hardhatNodeTestRunner, hardhatViem, hardhatNetworkHelpers, hardhatIgnitionViem],
  solidity: {
    compilers: [
      {
        version: "0.8.37",
        path: compiler,
        settings: { evmVersion: "cancun", optimizer: { enabled: true, runs: 10_000 } },
      },
    ],
    npmFilesToBuild: ["@openzeppelin/contracts/access/manager/AccessManager.sol"],
  },
  paths: {
    sources: "contracts/src",
    tests: { solidity: "hardhat/test", nodejs: "hardhat/test" },
    artifacts: "contracts/out",
    cache: "hardhat/cache",
    ignition: "hardhat/ignition",
  },
  // Which chain `deploy` goes to is said on its command line.
  networks: { deployment: { type: "http", url: "http://127.0.0.1:8545" } },
  test: {
    solidity: {
      fuzz: { runs: long ? 10_000 : 100, seed: process.env["FUZZ_SEED"] ?? "0x2a" },
      invariant: { runs: long ? 512 : 12, depth: long ? 128 : 40, failOnRevert: false },
    },
  },
  tasks: [
    task("abi", "Writes contracts/anynode_contracts/abi from the sources")
      .addFlag({ name: "check", description: "write nothing; fail if the committed files differ from the sources" })
      .setAction(() => import("./hardhat/tasks/abi.ts"))
      .build(),
    task("deploy", "Deploys all contracts and roles to any EVM chain and records them; see docs/deploy.md")
      .addOption({ name: "rpc", description: "the chain's RPC, as a URL", defaultValue: "http://127.0.0.1:8545" })
      .addOption({ name: "settings", description: "JSON: name, holder, who has which role", defaultValue: "" })
      .addOption({ name: "keystore", description: "encrypted key (v3); without it the key is asked for", defaultValue: "" })
      .addOption({ name: "passwordFile", description: "the keystore's password; else asked for", defaultValue: "" })
      .setAction(() => import("./hardhat/tasks/deploy.ts"))
      .build(),
  ],
});
