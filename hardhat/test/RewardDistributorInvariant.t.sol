// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Does what anybody may do and tries what nobody may, in any order, with a model of what must follow.
contract DistributorHandler is System {
    uint32 public constant NODES = 8;

    PlainToken public token = new PlainToken();
    uint256 public fundedWei;
    uint256 public paidWei;

    /// @notice What happened that must not happen; empty if nothing did.
    string public broken;

    bytes32[] private _active;
    bytes32[] private _waiting;
    uint256 private _activeAt;
    uint64 private _activeBatch;
    uint64[NODES] private _counters;

    constructor() {
        vm.warp(1_800_000_000);
        deploy(address(token));
        token.approve(address(distributor), type(uint256).max);
        for (uint32 i; i < NODES; ++i) _active.push(Tree.pack(i, accountOf(i), 0));
    }

    /*//////////////////////////////////////////////////////////////
                                 ACTIONS
    //////////////////////////////////////////////////////////////*/

    function fund(uint256 amount) external {
        amount = bound(amount, 1, 1e12) * 1 gwei;
        token.mint(address(this), amount);
        distributor.fund(amount);
        fundedWei += amount;
    }

    function pass(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, WINDOW));
        mature();
    }

    function postNext(uint256 seed) external {
        bytes32[] memory entries = new bytes32[](NODES);
        for (uint256 i; i < NODES; ++i) {
            entries[i] = bytes32(uint256(_active[i]) + uint256(keccak256(abi.encode(seed, i))) % 1e10);
        }
        bytes32 root = Tree.root(treeOf(entries));
        IVerifierSet.Signature[] memory signatures = signRoot(_activeBatch + 1, root, totalOf(entries));
        vm.prank(poster);
        try distributor.postRoot(_activeBatch + 1, root, totalOf(entries), DATA_HASH, signatures) {
            if (_waiting.length != 0) broken = "a waiting root was replaced";
            if (uint256(totalOf(entries)) * 1 gwei > fundedWei) broken = "a root was posted without funds";
            _waiting = entries;
            _activeAt = block.timestamp + WINDOW;
        } catch {}
    }

    function vetoWaiting(address caller) external {
        vm.prank(caller);
        try distributor.veto() {
            broken = "somebody else vetoed";
        } catch {}
        vm.prank(guardian);
        try distributor.veto() {
            if (_waiting.length == 0) broken = "an active root was vetoed";
            delete _waiting;
        } catch {}
    }

    /// @notice The admin closes the contract to every role; claims must not notice.
    function closeToRoles(bool closed) external {
        authority.setTargetClosed(address(distributor), closed);
    }

    function claim(uint256 node) external {
        node = bound(node, 0, NODES - 1);
        bytes32[][] memory levels = treeOf(_active);
        uint64 due = uint64(uint256(_active[node]));
        try distributor.claim(_active[node], Tree.proof(levels, 0, node)) returns (uint256 amount) {
            if (amount != uint256(due - _counters[node]) * 1 gwei) broken = "a claim paid another amount";
            settle(node);
        } catch {
            if (due > _counters[node] && _activeBatch != 0) broken = "a claim on an active root failed";
        }
    }

    function push(uint256 height, uint256 position) external {
        height = bound(height, 0, 3);
        position = bound(position, 0, (NODES >> height) - 1);
        bytes32[][] memory levels = treeOf(_active);
        bytes32[] memory entries = new bytes32[](1 << height);
        for (uint256 i; i < entries.length; ++i) entries[i] = _active[(position << height) + i];
        try distributor.claimSubtree(entries, Tree.proof(levels, height, position)) returns (uint256 amount) {
            uint256 before = paidWei;
            for (uint256 i; i < entries.length; ++i) settle((position << height) + i);
            if (paidWei - before != amount) broken = "a push paid another amount";
        } catch {
            if (_activeBatch != 0) broken = "a push on an active root failed";
        }
    }

    function claimEarly(uint256 node) external {
        if (_waiting.length == 0) return;
        node = bound(node, 0, NODES - 1);
        bytes32[][] memory levels = treeOf(_waiting);
        try distributor.claim(_waiting[node], Tree.proof(levels, 0, node)) {
            broken = "a waiting root paid";
        } catch {}
    }

    /*//////////////////////////////////////////////////////////////
                                  MODEL
    //////////////////////////////////////////////////////////////*/

    function settle(uint256 node) private {
        uint64 due = uint64(uint256(_active[node]));
        paidWei += uint256(due - _counters[node]) * 1 gwei;
        _counters[node] = due;
    }

    function mature() private {
        if (_waiting.length == 0 || block.timestamp < _activeAt) return;
        _active = _waiting;
        delete _waiting;
        ++_activeBatch;
    }

    function accountOf(uint32 node) private pure returns (address) {
        return address(uint160(0xabc000 + node));
    }

    function check() external view {
        require(bytes(broken).length == 0, broken);
        assertEq(token.balanceOf(address(distributor)), fundedWei - paidWei, "balance = funded - paid");
        assertEq(distributor.fundedWei(), fundedWei, "funded");
        for (uint32 i; i < NODES; ++i) {
            assertEq(distributor.claimedGwei(i), _counters[i], "counter");
            assertEq(token.balanceOf(accountOf(i)), uint256(_counters[i]) * 1 gwei, "account");
        }
        (uint64 batch, bytes32 root) = distributor.activeRoot();
        assertEq(batch, _activeBatch, "active batch");
        assertEq(root, batch == 0 ? bytes32(0) : Tree.root(treeOf(_active)), "active root");
        (batch,,) = distributor.waitingRoot();
        assertEq(batch, _waiting.length == 0 ? 0 : _activeBatch + 1, "waiting batch");
    }
}

contract RewardDistributorInvariantTest {
    DistributorHandler private handler;

    function setUp() public {
        handler = new DistributorHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_the_model_and_the_distributor_agree() public view {
        handler.check();
    }
}
