/**
 * All contracts, in the order of the plan, and all roles, in one last transaction that lets the deployer go.
 *
 * Parameters: `holder` (of the whole supply), who holds each duty, `admin`, the plan's settings, and `ahead`, where the
 * verifier set will be: two contracts before it are told, and its own constructor refuses to be anywhere else.
 */

import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";
import type { ArgumentType, NamedArtifactContractDeploymentFuture } from "@nomicfoundation/ignition-core";

import { AHEAD, HOLDERS, PLAN, selectors } from "../plan.js";

export default buildModule("AnyNode", (m) => {
  const deployer = m.getAccount(0);
  const values = new Map<string, ArgumentType>([["deployer", deployer]]);
  for (const name of HOLDERS) values.set(name, m.getParameter(name));
  for (const name of Object.keys(PLAN.settings)) values.set(name, m.getParameter(name));
  values.set("genesis", [{ holder: values.get("holder")!, amountWei: PLAN.supply_wei }]);
  values.set(AHEAD, m.getParameter("ahead"));

  const made: Record<string, NamedArtifactContractDeploymentFuture<string>> = {};
  let last: NamedArtifactContractDeploymentFuture<string>[] = [];
  for (const { name, arguments: names } of PLAN.contracts) {
    const given = names.map((argument) => made[argument] ?? values.get(argument)!);
    const contract = m.contract(name, given, { after: last });
    made[name] = contract;
    last = [contract];
  }

  const manager = made["AccessManager"]!;
  let steps = 0;
  const encode = (name: string, given: ArgumentType[]) =>
    m.encodeFunctionCall(manager, name, given, { id: `step${(steps += 1)}`, after: last });
  const handover = PLAN.duties.flatMap(({ holder, role, contract, functions }) => [
    encode("setTargetFunctionRole", [made[contract]!, selectors(contract, functions), role]),
    encode("grantRole", [role, values.get(holder)!, 0]),
  ]);
  handover.push(encode("grantRole", [PLAN.admin_role, values.get("admin")!, PLAN.admin_delay_s]));
  handover.push(encode("renounceRole", [PLAN.admin_role, deployer]));
  m.call(manager, "multicall", [handover], { id: "roles" });
  return made;
});
