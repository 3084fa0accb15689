// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MinerRegistry} from "../../contracts/src/MinerRegistry.sol";
import {IMinerRegistry} from "../../contracts/src/interfaces/IMinerRegistry.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Registers a few keys over and over, in every way.
contract RegistryHandler is System {
    MinerRegistry public registry = new MinerRegistry();
    uint32 public registered;
    string public broken;
    mapping(uint256 key => uint32) private _indices;

    function register(uint256 key, address payout) external {
        key = bound(key, 1, 12);
        vm.prank(vm.addr(key));
        try registry.register(payout) returns (uint32 index) {
            remember(key, index);
        } catch {}
    }

    function registerSigned(uint256 key, address payout) external {
        key = bound(key, 1, 12);
        IMinerRegistry.Registration[] memory registrations = new IMinerRegistry.Registration[](2);
        bytes[] memory signatures = new bytes[](2);
        for (uint256 i; i < 2; ++i) {
            (registrations[i], signatures[i]) = signRegistration(registry, key + i, payout, block.timestamp);
        }
        try registry.registerMany(registrations, signatures) returns (uint32[] memory indices) {
            for (uint256 i; i < 2; ++i) if (_indices[key + i] == 0) remember(key + i, indices[i]);
        } catch {}
    }

    function changePayout(uint256 key, address payout) external {
        key = bound(key, 1, 12);
        vm.prank(vm.addr(key));
        try registry.requestPayoutChange(_indices[key], payout) {} catch {}
        vm.warp(block.timestamp + 30 hours);
    }

    function remember(uint256 key, uint32 index) private {
        if (index != ++registered) broken = "an index did not follow its predecessor";
        if (_indices[key] != 0) broken = "a key has two indices";
        _indices[key] = index;
    }

    function check() external view {
        require(bytes(broken).length == 0, broken);
        assertEq(registry.count(), registered, "count");
        for (uint256 key = 1; key <= 13; ++key) {
            uint32 index = _indices[key];
            assertEq(registry.indexOf(vm.addr(key)), index, "the index of a key never changes");
            if (index == 0) continue;
            (address node, address payout) = registry.infoOf(index);
            assertEq(node, vm.addr(key), "the key of an index never changes");
            require(payout != address(0), "an index always has a payout");
        }
    }
}

contract MinerRegistryInvariantTest {
    RegistryHandler private handler;

    function setUp() public {
        handler = new RegistryHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_one_index_one_key_for_ever() public view {
        handler.check();
    }
}
