// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MinerRegistry} from "../../../contracts/src/MinerRegistry.sol";
import {StakeManager} from "../../../contracts/src/StakeManager.sol";
import {VerifierSet} from "../../../contracts/src/VerifierSet.sol";
import {IVerifierSet} from "../../../contracts/src/interfaces/IVerifierSet.sol";
import {IStakeManager} from "../../../contracts/src/interfaces/IStakeManager.sol";
import {PlainToken} from "./HostileTokens.sol";
import {System} from "./System.sol";
import {vm} from "./Vm.sol";

/// @notice The contracts with stakes and verifiers, and how nodes and verifiers come to be.
abstract contract Stakes is System {
    uint128 internal constant BOND = 1000 ether;
    uint128 internal constant FEE = 10 ether;
    bytes32 internal constant JOB = keccak256("job");
    bytes32 internal constant EVIDENCE = keccak256("evidence");

    address internal immutable slasher = makeAddress("slasher");
    address internal immutable arbiter = makeAddress("arbiter");
    address internal immutable finder = makeAddress("finder");
    address internal constant burned = 0x000000000000000000000000000000000000dEaD;

    PlainToken internal token;
    MinerRegistry internal registry;
    StakeManager internal stakes;
    VerifierSet internal verifierSet;

    function deployStakes(PlainToken token_) internal {
        token = token_;
        deploy(address(token_));
        registry = new MinerRegistry();
        (stakes, verifierSet) = newStakes(registry);
        grant(address(stakes), StakeManager.proposeSlash.selector, 4, slasher);
        grant(address(stakes), StakeManager.rule.selector, 5, arbiter);
        token.approve(address(stakes), type(uint256).max);
        token.approve(address(escrow), type(uint256).max);
    }

    /// @dev A stake manager and the verifier set that it was told of.
    function newStakes(MinerRegistry registry_) internal returns (StakeManager manager, VerifierSet set) {
        address ahead = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        manager = new StakeManager(escrow, registry_, IVerifierSet(ahead), address(authority), FEE);
        set = new VerifierSet(IStakeManager(manager), address(authority), BOND);
    }

    /// @dev A registered node of that name, paid to `payoutOf(name)`.
    function newNode(string memory name) internal returns (uint32 index) {
        vm.prank(vm.addr(keyOf(name)));
        index = registry.register(payoutOf(name));
    }

    function newStake(string memory name, uint128 amountWei) internal returns (uint32 index) {
        index = newNode(name);
        token.mint(address(this), amountWei);
        stakes.stake(index, amountWei);
    }

    function newVerifier(string memory name, uint32 quorum) internal returns (address verifier, uint32 index) {
        index = newStake(name, BOND);
        verifier = vm.addr(keyOf(name));
        verifierSet.add(verifier, quorum);
    }

    function openJob(bytes32 job, uint128 budgetWei) internal {
        token.mint(address(this), budgetWei);
        escrow.create(job, budgetWei, budgetWei, uint64(block.timestamp + 30 days));
    }

    function propose(uint32 index, uint128 amountWei) internal returns (uint256) {
        vm.prank(slasher);
        return stakes.proposeSlash(index, amountWei, JOB, finder, EVIDENCE);
    }

    function keyOf(string memory name) internal pure returns (uint256) {
        return uint256(keccak256(bytes(name)));
    }

    function payoutOf(string memory name) internal pure returns (address) {
        return makeAddress(string.concat(name, "'s payout"));
    }

    /// @dev A record's digest.
    function digestOf(uint256 chainId, address registry_, IVerifierSet.Equivocation memory proof, uint256 which)
        internal
        pure
        returns (bytes32)
    {
        string memory phase = proof.phase == IVerifierSet.Phase.Prepare ? "prepare" : "certify";
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Record(bytes32 job,uint64 height,uint64 view,string phase,bytes32 record)"),
                proof.job,
                proof.height,
                proof.view_,
                keccak256(bytes(phase)),
                proof.records[which]
            )
        );
        return typedDigest("AnyNode", chainId, registry_, message);
    }

    /// @dev Both votes, signed with `key` for `chainId` and `registry_`.
    function signBoth(IVerifierSet.Equivocation memory proof, uint256 key, uint256 chainId, address registry_)
        internal
        pure
        returns (IVerifierSet.Equivocation memory)
    {
        for (uint256 i; i < 2; ++i) proof.signatures[i] = sign(key, digestOf(chainId, registry_, proof, i));
        return proof;
    }

    /// @dev A proof against `name`, as it would be valid here.
    function proofOf(string memory name) internal view returns (IVerifierSet.Equivocation memory proof) {
        (proof.job, proof.height, proof.view_, proof.phase) = (JOB, 7, 3, IVerifierSet.Phase.Certify);
        (proof.records[0], proof.records[1]) = (keccak256("one"), keccak256("another"));
        return signBoth(proof, keyOf(name), block.chainid, address(registry));
    }
}
