// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MinerRegistry} from "../../contracts/src/MinerRegistry.sol";
import {IMinerRegistry} from "../../contracts/src/interfaces/IMinerRegistry.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice One index, one node key, for ever; a payout account that cannot be changed behind its owner's back.
contract MinerRegistryTest is System {
    MinerRegistry internal registry;
    address internal node = makeAddress("node");
    address internal payout = makeAddress("payout");
    address internal other = makeAddress("other");

    function setUp() public {
        vm.warp(1_800_000_000);
        registry = new MinerRegistry();
    }

    function register() internal returns (uint32) {
        vm.prank(node);
        return registry.register(payout);
    }

    function payoutOf(uint32 index) internal view returns (address current) {
        (, current) = registry.infoOf(index);
    }

    /*//////////////////////////////////////////////////////////////
                                REGISTER
    //////////////////////////////////////////////////////////////*/

    function test_indices_count_from_one() public {
        assertEq(registry.indexOf(node), 0, "unregistered");
        assertEq(register(), 1, "first index");
        assertEq(registry.register(payout), 2, "second index");
        (address node_, address payout_) = registry.infoOf(1);
        assertEq(node_, node, "node key");
        assertEq(payout_, payout, "payout");
        assertEq(registry.count(), 2, "count");
    }

    function test_second_registration_is_refused() public {
        register();
        vm.prank(node);
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.AlreadyRegistered.selector, 1));
        registry.register(other);
    }

    function test_unknown_index_and_zero_payout_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.UnknownIndex.selector, 1));
        registry.infoOf(1);
        vm.expectRevert(IMinerRegistry.ZeroAddress.selector);
        registry.register(address(0));
    }

    function testFuzz_anyone_registers_signed_nodes(uint8 count, uint256 seed) public {
        count = uint8(bound(count, 0, 8));
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](count);
        bytes[] memory signatures = new bytes[](count);
        for (uint256 i; i < count; ++i) {
            uint256 key = 1 + uint256(keccak256(abi.encode(seed, i))) % type(uint128).max;
            (registrations[i], signatures[i]) =
                signRegistration(registry, key, address(uint160(key)), block.timestamp);
        }
        uint32[] memory indices = registry.registerMany(registrations, signatures);
        for (uint32 i; i < count; ++i) {
            assertEq(indices[i], i + 1, "index");
            (address node_, address payout_) = registry.infoOf(i + 1);
            assertEq(node_, registrations[i].node, "node key");
            assertEq(payout_, registrations[i].payout, "payout");
        }
    }

    function test_registered_member_does_not_spoil_the_collection() public {
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](2);
        bytes[] memory signatures = new bytes[](2);
        (registrations[0], signatures[0]) = signRegistration(registry, 1, payout, block.timestamp);
        (registrations[1], signatures[1]) = signRegistration(registry, 2, payout, block.timestamp);
        vm.prank(vm.addr(1));
        registry.register(other);
        uint32[] memory indices = registry.registerMany(registrations, signatures);
        assertEq(indices[0], 1, "keeps its index");
        assertEq(payoutOf(1), other, "keeps its payout");
        assertEq(indices[1], 2, "the other is registered");
        indices = registry.registerMany(registrations, signatures);
        assertEq(indices[1], 2, "a replay changes nothing");
        assertEq(registry.count(), 2, "count");
    }

    function testFuzz_altered_registration_is_refused(uint8 which) public {
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](1);
        bytes[] memory signatures = new bytes[](1);
        (registrations[0], signatures[0]) = signRegistration(registry, 1, payout, block.timestamp);
        address claimed = registrations[0].node;
        which = uint8(bound(which, 0, 4));
        if (which == 0) registrations[0].payout = other;
        if (which == 1) registrations[0].deadline += 1;
        if (which == 2) claimed = registrations[0].node = other;
        if (which == 3) signatures[0][10] ^= 0x01;
        if (which == 4) signatures[0] = "";
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.InvalidSignature.selector, claimed));
        registry.registerMany(registrations, signatures);
    }

    function test_signature_for_another_registry_or_chain_is_refused() public {
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](1);
        bytes[] memory signatures = new bytes[](1);
        (registrations[0], signatures[0]) = signRegistration(registry, 1, payout, block.timestamp);
        bytes memory refused = abi.encodeWithSelector(IMinerRegistry.InvalidSignature.selector, vm.addr(1));
        MinerRegistry foreign = new MinerRegistry();
        vm.expectRevert(refused);
        foreign.registerMany(registrations, signatures);
        vm.chainId(1);
        vm.expectRevert(refused);
        registry.registerMany(registrations, signatures);
    }

    function test_expired_and_unpaired_signatures_are_refused() public {
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](1);
        bytes[] memory signatures = new bytes[](1);
        (registrations[0], signatures[0]) = signRegistration(registry, 1, payout, block.timestamp);
        vm.warp(block.timestamp + 1);
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.SignatureExpired.selector, vm.addr(1)));
        registry.registerMany(registrations, signatures);
        vm.expectRevert(IMinerRegistry.LengthMismatch.selector);
        registry.registerMany(registrations, new bytes[](2));
    }

    /*//////////////////////////////////////////////////////////////
                              PAYOUT CHANGE
    //////////////////////////////////////////////////////////////*/

    function testFuzz_payout_change_waits_48_hours(uint64 wait) public {
        register();
        vm.prank(node);
        registry.requestPayoutChange(1, other);
        uint256 requested = block.timestamp;
        vm.warp(requested + bound(wait, 0, 48 hours - 1));
        assertEq(payoutOf(1), payout, "former payout while it waits");
        (address next, uint64 effectiveAt) = registry.payoutChangeOf(1);
        assertEq(next, other, "waiting payout");
        assertEq(effectiveAt, requested + 48 hours, "when");
        vm.warp(requested + bound(wait, 48 hours, 1000 days));
        assertEq(payoutOf(1), other, "new payout without another transaction");
        (next, effectiveAt) = registry.payoutChangeOf(1);
        assertEq(effectiveAt, 0, "nothing waits");
    }

    function test_payout_account_cancels_what_a_stolen_node_key_asked() public {
        register();
        vm.prank(node);
        registry.requestPayoutChange(1, other);
        vm.prank(payout);
        registry.cancelPayoutChange(1);
        vm.warp(block.timestamp + 100 days);
        assertEq(payoutOf(1), payout, "payout");
        vm.prank(payout);
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.NoChangeWaiting.selector, 1));
        registry.cancelPayoutChange(1);
    }

    function test_pay_goes_to_nobody_by_no_request() public {
        register();
        vm.prank(node);
        vm.expectRevert(IMinerRegistry.ZeroAddress.selector);
        registry.requestPayoutChange(1, address(0));
    }

    function test_second_request_starts_the_wait_anew() public {
        register();
        vm.prank(node);
        registry.requestPayoutChange(1, stranger);
        vm.warp(block.timestamp + 48 hours - 1);
        vm.prank(payout);
        registry.requestPayoutChange(1, other);
        vm.warp(block.timestamp + 48 hours - 1);
        assertEq(payoutOf(1), payout, "still the former payout");
        vm.warp(block.timestamp + 1);
        assertEq(payoutOf(1), other, "the later request counts");
    }

    function test_request_after_a_finished_change_starts_from_it() public {
        register();
        vm.prank(node);
        registry.requestPayoutChange(1, other);
        vm.warp(block.timestamp + 48 hours);
        vm.prank(payout);
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.NotNodeOrPayout.selector, 1));
        registry.requestPayoutChange(1, payout);
        vm.prank(other);
        registry.requestPayoutChange(1, stranger);
        assertEq(payoutOf(1), other, "the finished change holds");
    }

    function testFuzz_strangers_change_nothing(address caller) public {
        vm.assume(caller != node && caller != payout && caller != address(0));
        register();
        bytes memory refused = abi.encodeWithSelector(IMinerRegistry.NotNodeOrPayout.selector, 1);
        vm.prank(caller);
        vm.expectRevert(refused);
        registry.requestPayoutChange(1, caller);
        vm.prank(caller);
        vm.expectRevert(refused);
        registry.cancelPayoutChange(1);
    }
}
