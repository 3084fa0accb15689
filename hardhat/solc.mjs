#!/usr/bin/env node
// The locked Solidity compiler behind the command line that Slither expects of `solc`: `--version`, or standard JSON
// from stdin to stdout. Sources and imports are read from the folder it is started in.

import { readFileSync } from "node:fs";

import solc from "solc";

function read(path) {
  try {
    return { contents: readFileSync(path, "utf8") };
  } catch (error) {
    return { error: error.message };
  }
}

function compile(input) {
  for (const source of Object.values(input.sources)) {
    if (source.urls === undefined) continue;
    source.content = readFileSync(source.urls[0], "utf8");
    delete source.urls;
  }
  return solc.compile(JSON.stringify(input), { import: read });
}

const asked = process.argv.slice(2);
console.log(asked.includes("--version") ? `Version: ${solc.version()}` : compile(JSON.parse(readFileSync(0, "utf8"))));
