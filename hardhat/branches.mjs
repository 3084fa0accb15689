// Marks the arms of every `if` of the contracts, so that a coverage of lines becomes one of branches:
// `node hardhat/branches.mjs FOLDER` rewrites contracts/src below FOLDER and prints, as JSON, by file the lines of the
// marks.
//
// An arm gets a line of its own with a call of an empty function; an arm that is not written down, because the `if`
// has no `else`, gets one too. Where the arms are is read from the compiler's syntax tree.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

import solc from "solc";

const MARKS = "contracts/src/Marks.sol";
const OPEN = Buffer.from("{\nmark();\n");
const CLOSE = Buffer.from("\n}");
const OTHER = Buffer.from("\nelse {\nmark();\n}");

const root = path.resolve(process.argv[2]);
const sources = readdirSync(path.join(root, "contracts/src"), { recursive: true })
  .filter((name) => name.endsWith(".sol"))
  .map((name) => `contracts/src/${name}`);

/** Calls `visit` with every node of a syntax tree, inner ones first. */
function walk(node, visit) {
  if (node === null || typeof node !== "object") return;
  Object.values(node).forEach((child) => walk(child, visit));
  if (node.nodeType !== undefined) visit(node);
}

/** Where a statement ends, with its semicolon, which the tree leaves out of most. */
function endOf(source, node) {
  if (node.nodeType === "IfStatement") return endOf(source, node.falseBody ?? node.trueBody);
  const [start, length] = node.src.split(":").map(Number);
  const end = start + length;
  return "};".includes(String.fromCharCode(source[end - 1])) ? end : source.indexOf(";", end) + 1;
}

/** What is put where into a source: pairs of a byte offset and text. */
function insertions(source, tree) {
  const found = [];
  const surround = (arm) => {
    const end = endOf(source, arm);
    found.push([Number(arm.src.split(":")[0]), OPEN], [end, CLOSE]);
    return end;
  };
  walk(tree, (node) => {
    if (node.nodeType !== "IfStatement") return;
    const end = surround(node.trueBody);
    if (node.falseBody) surround(node.falseBody);
    else found.push([end, OTHER]);
  });
  return found;
}

/** The source with all insertions. At one place, what closes an inner arm comes before what follows it. */
function rewrite(source, insertions) {
  const pieces = [];
  let done = 0;
  for (const [at, text] of insertions.toSorted(([one], [other]) => one - other)) {
    pieces.push(source.subarray(done, at), text);
    done = at;
  }
  pieces.push(source.subarray(done));
  return Buffer.concat(pieces);
}

/** With an import of the empty function, after the line with the compiler's version. */
function withImport(name, text) {
  const up = path.relative(path.dirname(name), MARKS);
  return text.replace(/^(pragma solidity .*)$/m, `$1 import {mark} from "${up.startsWith(".") ? up : `./${up}`}";`);
}

function read(name) {
  const inside = name.startsWith("@") ? path.join(root, "node_modules", name) : path.join(root, name);
  return { contents: readFileSync(inside, "utf8") };
}

const contents = Object.fromEntries(sources.map((name) => [name, readFileSync(path.join(root, name))]));
const input = {
  language: "Solidity",
  sources: Object.fromEntries(sources.map((name) => [name, { content: contents[name].toString() }])),
  settings: { evmVersion: "cancun", outputSelection: { "*": { "": ["ast"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
const failed = (output.errors ?? []).filter((error) => error.severity === "error");
if (failed.length > 0) throw new Error(failed[0].formattedMessage);

const lines = {};
for (const name of sources) {
  const places = insertions(contents[name], output.sources[name].ast);
  if (places.length === 0) continue;
  const text = withImport(name, rewrite(contents[name], places).toString());
  writeFileSync(path.join(root, name), text);
  lines[name] = text.split("\n").flatMap((line, index) => (line === "mark();" ? [index + 1] : []));
}
const [licence, pragma] = contents[sources[0]].toString().split("\n");
writeFileSync(path.join(root, MARKS), `${licence}\n${pragma}\n\nfunction mark() pure {}\n`);
console.log(JSON.stringify(lines));
