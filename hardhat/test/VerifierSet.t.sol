// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {VerifierSet} from "../../contracts/src/VerifierSet.sol";
import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {Stakes} from "./support/Stakes.sol";
import {vm} from "./support/Vm.sol";

/// @notice Who verifies, how many must sign, and what two signed records cost.
contract VerifierSetTest is Stakes {
    address internal liar;
    uint32 internal liarIndex;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.roll(100);
        deployStakes(new PlainToken());
        openJob(JOB, 1000 ether);
        (liar, liarIndex) = newVerifier("liar", 1);
        newVerifier("second", 2);
        newVerifier("third", 2);
        newVerifier("fourth", 3);
    }

    function assertStanding(address verifier, IVerifierSet.Standing expected) internal view {
        assertEq(uint8(verifierSet.standingOf(verifier)), uint8(expected), "standing");
        assertEq(verifierSet.isMember(verifier) ? 1 : 0, expected == IVerifierSet.Standing.Member ? 1 : 0, "member");
    }

    function assertSet(uint256 count, uint32 quorum) internal view {
        assertEq(verifierSet.members().length, count, "count");
        assertEq(verifierSet.quorum(), quorum, "quorum");
    }

    function prove(IVerifierSet.Equivocation memory proof) internal {
        vm.prank(stranger);
        verifierSet.prove(proof, address(0), 0);
    }

    function expectStanding(address verifier, IVerifierSet.Standing standing) internal {
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.WrongStanding.selector, verifier, standing));
    }

    /*//////////////////////////////////////////////////////////////
                                 MEMBERS
    //////////////////////////////////////////////////////////////*/

    function test_only_the_admin_changes_the_set() public {
        address[4] memory others = [slasher, arbiter, guardian, liar];
        for (uint256 i; i < others.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, others[i]);
            vm.expectRevert(refusal);
            vm.prank(others[i]);
            verifierSet.add(others[i], 3);
            vm.expectRevert(refusal);
            vm.prank(others[i]);
            verifierSet.remove(liar, 2);
            vm.expectRevert(IVerifierSet.NotStakeManager.selector);
            vm.prank(others[i]);
            verifierSet.expel(liar);
        }
    }

    function test_add_needs_a_registered_node_with_its_bond() public {
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotRegistered.selector, stranger));
        verifierSet.add(stranger, 3);
        newStake("poor", BOND - 1);
        address poor = vm.addr(keyOf("poor"));
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.BondMissing.selector, poor, BOND - 1, BOND));
        verifierSet.add(poor, 3);
        expectStanding(liar, IVerifierSet.Standing.Member);
        verifierSet.add(liar, 3);
    }

    function test_who_has_left_can_come_back() public {
        verifierSet.remove(liar, 2);
        assertStanding(liar, IVerifierSet.Standing.Left);
        assertSet(3, 2);
        expectStanding(liar, IVerifierSet.Standing.Left);
        verifierSet.remove(liar, 2);
        verifierSet.add(liar, 3);
        assertStanding(liar, IVerifierSet.Standing.Member);
        vm.prank(liar);
        verifierSet.resign();
        assertStanding(liar, IVerifierSet.Standing.Left);
        assertSet(3, 2);
        expectStanding(stranger, IVerifierSet.Standing.None);
        vm.prank(stranger);
        verifierSet.resign();
    }

    function test_the_set_has_a_limit() public {
        for (uint256 count = 4; count < verifierSet.MEMBERS_MAX(); ++count) {
            newVerifier(string.concat("verifier ", string(abi.encode(count))), uint32(count / 2 + 2));
        }
        newStake("one too many", BOND);
        address verifier = vm.addr(keyOf("one too many"));
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.TooMany.selector, 256));
        verifierSet.add(verifier, 200);
    }

    function testFuzz_a_quorum_is_more_than_half_and_at_most_all(uint32 quorum) public {
        newStake("fifth", BOND);
        address fifth = vm.addr(keyOf("fifth"));
        if (quorum < 3 || quorum > 5) {
            vm.expectRevert(abi.encodeWithSelector(IVerifierSet.QuorumOutOfRange.selector, quorum, 5));
        }
        verifierSet.add(fifth, quorum);
    }

    /// @notice The same as what the nodes count: each exclusion takes one from both sides, never down to a half.
    function testFuzz_the_quorum_falls_with_the_set(uint256 count, uint256 quorum, uint256 gone) public {
        VerifierSet set;
        (stakes, set) = newStakes(registry);
        token.approve(address(stakes), type(uint256).max);
        count = bound(count, 1, 12);
        quorum = bound(quorum, count / 2 + 1, count);
        gone = bound(gone, 0, count);
        address[] memory all = new address[](count);
        for (uint256 i; i < count; ++i) {
            string memory name = string(abi.encode("node", i));
            newStake(name, BOND);
            all[i] = vm.addr(keyOf(name));
            set.add(all[i], uint32(i + 1 == count ? quorum : i / 2 + 1 + i % 2));
        }
        for (uint256 i; i < gone; ++i) {
            vm.prank(all[i]);
            set.resign();
        }
        uint256 half = (count - gone) / 2 + 1;
        uint256 fewer = quorum > gone ? quorum - gone : 0;
        assertEq(set.quorum(), fewer > half ? fewer : half, "quorum");
        assertEq(set.members().length, count - gone, "count");
    }

    function test_the_last_one_can_be_removed() public {
        for (uint256 i; i < 3; ++i) {
            verifierSet.remove(verifierSet.members()[0], i == 0 ? 2 : i == 1 ? 2 : 1);
        }
        assertSet(1, 1);
        verifierSet.remove(verifierSet.members()[0], 0);
        assertSet(0, 0);
    }

    function test_a_stake_manager_knows_its_set() public {
        vm.expectRevert(IVerifierSet.NotStakeManager.selector);
        new VerifierSet(IStakeManager(stakes), address(authority), BOND);
    }

    /*//////////////////////////////////////////////////////////////
                                  PROOF
    //////////////////////////////////////////////////////////////*/

    function test_two_signed_records_cost_the_stake_and_the_place() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        vm.expectEmit();
        emit IVerifierSet.QuorumChanged(2, 3);
        vm.expectEmit();
        emit IStakeManager.Slashed(liarIndex, JOB, BOND, 0);
        vm.expectEmit();
        emit IStakeManager.Burned(liarIndex, JOB, BOND);
        vm.expectEmit();
        emit IVerifierSet.VerifierProven(liar, JOB, proof.records, BOND);
        prove(proof);
        assertStanding(liar, IVerifierSet.Standing.Proven);
        assertSet(3, 2);
        assertEq(stakes.stakeOf(liarIndex).activeWei, 0, "stake");
        assertEq(token.balanceOf(burned), BOND, "burned");
        assertEq(token.balanceOf(stranger), 0, "the caller");
    }

    /// @notice A liar that proves itself for a job of its own, running or cancelled, saves no more than a finder's fee.
    function testFuzz_a_liar_that_proves_itself_saves_only_the_fee(bool cancels, bool drawn, bool finds) public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        proof.job = keccak256("its own");
        token.mint(liar, 2);
        vm.startPrank(liar);
        token.approve(address(escrow), 2);
        escrow.create(proof.job, 2, 2, uint64(block.timestamp + 1 days));
        vm.stopPrank();
        if (drawn) {
            vm.prank(settler);
            escrow.draw(proof.job, 1, 1);
        }
        vm.startPrank(liar);
        if (cancels) escrow.cancel(proof.job);
        proof = signBoth(proof, keyOf("liar"), block.chainid, address(registry));
        address to = finds ? liar : address(0);
        verifierSet.announce(verifierSet.commitmentOf(proof, to, "salt"));
        vm.roll(101);
        verifierSet.prove(proof, to, "salt");
        vm.stopPrank();
        uint128 feeWei = finds ? FEE : 0;
        assertEq(stakes.creditedWei(liar), feeWei, "the fee");
        assertEq(escrow.remainingWei(proof.job), drawn ? 1 : 2, "its job");
        assertEq(token.balanceOf(burned), BOND - feeWei, "burned");
    }

    /// @notice Any two votes that differ only in the record prove it, and the digest is that of EIP-712.
    function testFuzz_any_two_votes_prove_it(uint64 height, uint64 view_, bool certify, bytes32 one, bytes32 other)
        public
    {
        vm.assume(one != other);
        IVerifierSet.Equivocation memory proof;
        (proof.job, proof.height, proof.view_) = (JOB, height, view_);
        proof.phase = certify ? IVerifierSet.Phase.Certify : IVerifierSet.Phase.Prepare;
        (proof.records[0], proof.records[1]) = (one, other);
        for (uint256 i; i < 2; ++i) {
            assertEq(
                verifierSet.recordDigest(JOB, height, view_, proof.phase, proof.records[i]),
                digestOf(block.chainid, address(registry), proof, i),
                "digest"
            );
        }
        prove(signBoth(proof, keyOf("second"), block.chainid, address(registry)));
        assertStanding(vm.addr(keyOf("second")), IVerifierSet.Standing.Proven);
    }

    /// @notice One vote, or two that differ in more than the record, prove nothing.
    function testFuzz_nobody_is_proven_by_what_it_may_sign(uint8 field, bytes32 other) public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        IVerifierSet.Equivocation memory elsewhere = proofOf("liar");
        field = uint8(bound(field, 0, 5));
        vm.assume(other != proof.job && uint64(uint256(other)) != 7 && uint64(uint256(other)) != 3);
        if (field == 0) elsewhere.job = other;
        if (field == 1) elsewhere.height = uint64(uint256(other));
        if (field == 2) elsewhere.view_ = uint64(uint256(other));
        if (field == 3) elsewhere.phase = IVerifierSet.Phase.Prepare;
        if (field == 4) elsewhere.records[1] = keccak256(abi.encode(other));
        elsewhere = signBoth(elsewhere, keyOf("liar"), block.chainid, address(registry));
        proof.signatures[1] = field == 5 ? proof.signatures[0] : elsewhere.signatures[1];
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
    }

    function test_two_votes_for_one_record_prove_nothing() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        proof.records[1] = proof.records[0];
        proof = signBoth(proof, keyOf("liar"), block.chainid, address(registry));
        vm.expectRevert(IVerifierSet.SameRecord.selector);
        prove(proof);
    }

    function test_two_keys_prove_nothing() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        proof.signatures[1] = proofOf("second").signatures[1];
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
    }

    function testFuzz_rubbish_proves_nothing(bytes calldata one, bytes calldata other) public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        (proof.signatures[0], proof.signatures[1]) = (one, other);
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
    }

    /// @notice What was signed for another chain or another network proves nothing here.
    function testFuzz_foreign_proofs_fail(uint64 chainId, address elsewhere) public {
        vm.assume(chainId != block.chainid && chainId != 0 && elsewhere != address(registry));
        IVerifierSet.Equivocation memory proof = signBoth(proofOf("liar"), keyOf("liar"), chainId, address(registry));
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
        proof = signBoth(proof, keyOf("liar"), block.chainid, elsewhere);
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
    }

    /// @notice After a fork of the chain, what was signed on one side proves nothing on the other.
    function test_a_fork_has_proofs_of_its_own() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        vm.chainId(77);
        vm.expectRevert(IVerifierSet.InvalidProof.selector);
        prove(proof);
    }

    function test_a_proof_works_once() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        prove(proof);
        newMoney();
        expectStanding(liar, IVerifierSet.Standing.Proven);
        prove(proof);
        (proof.records[0], proof.records[1]) = (proof.records[1], proof.records[0]);
        (proof.signatures[0], proof.signatures[1]) = (proof.signatures[1], proof.signatures[0]);
        expectStanding(liar, IVerifierSet.Standing.Proven);
        prove(proof);
        expectStanding(liar, IVerifierSet.Standing.Proven);
        verifierSet.add(liar, 3);
    }

    function newMoney() private {
        token.mint(address(this), BOND);
        stakes.stake(liarIndex, BOND);
    }

    function test_who_has_left_answers_with_what_is_unbonding() public {
        vm.prank(liar);
        verifierSet.resign();
        vm.prank(liar);
        stakes.requestUnstake(liarIndex, BOND);
        vm.warp(block.timestamp + 14 days);
        vm.expectEmit();
        emit IStakeManager.Slashed(liarIndex, JOB, 0, BOND);
        prove(proofOf("liar"));
        assertStanding(liar, IVerifierSet.Standing.Proven);
        assertSet(3, 2);
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        stakes.withdraw(liarIndex);
    }

    function test_a_node_that_never_verified_has_nothing_to_prove() public {
        newStake("miner", BOND);
        expectStanding(vm.addr(keyOf("miner")), IVerifierSet.Standing.None);
        prove(proofOf("miner"));
    }

    function test_two_votes_on_a_job_without_a_budget_are_a_proof_too() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        proof.job = EVIDENCE;
        prove(signBoth(proof, keyOf("liar"), block.chainid, address(registry)));
        assertEq(token.balanceOf(burned), BOND, "burned");
    }

    /// @notice A proof also takes what a proposed slash has frozen; that slash finds nothing then.
    function test_a_proof_comes_before_a_proposed_slash() public {
        uint256 id = propose(liarIndex, BOND / 2);
        prove(proofOf("liar"));
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.OverStake.selector, BOND, 0));
        propose(liarIndex, BOND);
        vm.warp(block.timestamp + 72 hours);
        stakes.execute(id);
        assertEq(token.balanceOf(burned), BOND, "once");
        assertEq(stakes.stakeOf(liarIndex).frozenWei, 0, "frozen");
    }

    /*//////////////////////////////////////////////////////////////
                                 FINDER
    //////////////////////////////////////////////////////////////*/

    function test_the_finder_has_announced_it_before() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        bytes32 commitment = verifierSet.commitmentOf(proof, finder, "salt");
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotAnnounced.selector, commitment));
        verifierSet.prove(proof, finder, "salt");
        vm.expectEmit();
        emit IVerifierSet.ProofAnnounced(commitment);
        verifierSet.announce(commitment);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.AlreadyAnnounced.selector, commitment));
        verifierSet.announce(commitment);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotAnnounced.selector, commitment));
        verifierSet.prove(proof, finder, "salt"); // in the same block
        vm.roll(101);
        vm.prank(stranger);
        verifierSet.prove(proof, finder, "salt");
        assertEq(stakes.creditedWei(finder), FEE, "fee");
        assertEq(token.balanceOf(burned), BOND - FEE, "the rest");
    }

    /// @notice Who copies a proof that it sees in the open gets no fee for it.
    function test_who_copies_a_proof_is_not_its_finder() public {
        IVerifierSet.Equivocation memory proof = proofOf("liar");
        verifierSet.announce(verifierSet.commitmentOf(proof, finder, "salt"));
        vm.roll(101);
        bytes32 copied = verifierSet.commitmentOf(proof, stranger, "salt");
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotAnnounced.selector, copied));
        vm.prank(stranger);
        verifierSet.prove(proof, stranger, "salt");
    }
}
