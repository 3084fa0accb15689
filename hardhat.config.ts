/** Hardhat: compiles `contracts/src` with the locked compiler, without a download, and runs `hardhat/test`. */

import { createRequire } from "node:module";

import hardhatNetworkHelpers from "@nomicfoundation/hardhat-network-helpers";
import hardhatNodeTestRunner from "@nomicfoundation/hardhat-node-test-runner";
import hardhatViem from "@nomicfoundation/hardhat-viem";
import { defineConfig, task } from "hardhat/config";

const compiler = createRequire(import.meta.url).resolve("solc/soljson.js");

/** `FUZZ=long` runs the Solidity fuzz and invariant tests for minutes instead of seconds. */
const long = process.env["FUZZ"] === "long";

export default defineConfig({
  plugins: [hardhatNodeTestRunner, hardhatViem, hardhatNetworkHelpers],
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
  },
  test: {
    solidity: {
      fuzz: { runs: long ? 20_000 : 256, seed: process.env["FUZZ_SEED"] ?? "0x2a" },
      invariant: { runs: long ? 512 : 24, depth: long ? 128 : 40, failOnRevert: false },
    },
  },
  tasks: [
    task("abi", "Writes contracts/anynode_contracts/abi from the sources")
      .addFlag({ name: "check", description: "write nothing; fail if the committed files differ from the sources" })
      .setAction(() => import("./hardhat/tasks/abi.ts"))
      .build(),
  ],
});
