// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {Stakes} from "./support/Stakes.sol";
import {vm} from "./support/Vm.sol";

/// @notice Four nodes, of which three have been made verifiers, and everybody around them: each role does whatever it
/// may and tries what it may not, in any order. Node 0 is honest: it signs no two records.
contract StakesHandler is Stakes {
    uint256 private constant NODES = 4;

    string[NODES] private _names = ["honest", "second", "third", "miner"];
    uint32[NODES] private _indices;
    mapping(uint32 index => uint256) private _depositedWei;
    mapping(uint32 index => uint256) private _withdrawnWei;
    mapping(uint32 index => uint256) private _slashedWei;
    mapping(uint256 id => uint256) private _proposedAt;
    mapping(uint256 id => bool) private _contested;
    mapping(uint256 id => bool) private _upheld;
    mapping(string name => bool) private _proven;
    uint256 private _collectedWei;

    /// @notice What happened that must not happen; empty if nothing did.
    string public broken;

    constructor() {
        vm.warp(1_800_000_000);
        deployStakes(new PlainToken());
        openJob(JOB, 1000 ether);
        for (uint256 i; i < NODES; ++i) {
            if (i + 1 == NODES) _indices[i] = newStake(_names[i], BOND);
            else (, _indices[i]) = newVerifier(_names[i], uint32((i + 1) / 2 + 1));
            _depositedWei[_indices[i]] = BOND;
        }
    }

    /*//////////////////////////////////////////////////////////////
                           NODES AND STRANGERS
    //////////////////////////////////////////////////////////////*/

    function stake(uint256 node, uint256 amount) external {
        uint128 amountWei = uint128(bound(amount, 1, 2 * BOND));
        token.mint(address(this), amountWei);
        stakes.stake(indexAt(node), amountWei);
        _depositedWei[indexAt(node)] += amountWei;
    }

    function requestUnstake(uint256 node, uint256 amount) external {
        vm.prank(addressAt(node));
        try stakes.requestUnstake(indexAt(node), uint128(bound(amount, 1, 2 * BOND))) {} catch {}
    }

    function withdraw(uint256 node) external {
        (, address payout) = registry.infoOf(indexAt(node));
        uint256 before = token.balanceOf(payout);
        try stakes.withdraw(indexAt(node)) returns (uint128 amountWei) {
            if (token.balanceOf(payout) - before != amountWei) broken = "a withdrawal paid another amount";
            _withdrawnWei[indexAt(node)] += amountWei;
        } catch {}
    }

    function resign(uint256 node) external {
        vm.prank(addressAt(node));
        try verifierSet.resign() {} catch {}
    }

    function appeal(uint256 id, uint256 node) external {
        vm.prank(addressAt(node));
        try stakes.appeal(id = anyId(id), EVIDENCE) {
            if (stakes.slashOf(id).index != indexAt(node)) broken = "somebody else appealed";
            _contested[id] = true;
        } catch {}
    }

    function collect(bool own) external {
        try stakes.collect(own ? address(this) : finder) returns (uint128 amountWei) {
            _collectedWei += amountWei;
        } catch {}
    }

    function pass(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 20 days));
    }

    /*//////////////////////////////////////////////////////////////
                              HOSTILE ROLES
    //////////////////////////////////////////////////////////////*/

    function proposeSlash(uint256 node, uint256 amount) external {
        vm.prank(slasher);
        try stakes.proposeSlash(indexAt(node), uint128(bound(amount, 1, 2 * BOND)), JOB, finder, EVIDENCE) returns (
            uint256 id
        ) {
            _proposedAt[id] = block.timestamp;
        } catch {}
    }

    function rule(uint256 id, bool upheld) external {
        vm.prank(arbiter);
        try stakes.rule(id = anyId(id), upheld) {
            if (!_contested[id]) broken = "the arbiter ruled on what nobody contested";
            _upheld[id] = upheld;
        } catch {}
    }

    function lapse(uint256 id) external {
        try stakes.lapse(id = anyId(id)) {
            if (_upheld[id]) broken = "an upheld slash lapsed";
        } catch {}
    }

    function execute(uint256 id) external {
        id = anyId(id);
        uint32 index = stakes.slashOf(id).index;
        uint256 before = atStake(index);
        try stakes.execute(id) {
            if (block.timestamp < _proposedAt[id] + 72 hours) broken = "a slash passed the window";
            if (_contested[id] && !_upheld[id]) broken = "a contested slash was carried out";
            if (before - atStake(index) > stakes.slashOf(id).amountWei) broken = "more than proposed was taken";
            _slashedWei[index] += before - atStake(index);
        } catch {}
    }

    function steal(uint256 node, address caller) external {
        if (caller == address(verifierSet)) return;
        vm.prank(caller);
        try stakes.slashProven(indexAt(node), JOB, finder) {
            broken = "somebody slashed without a proof";
        } catch {}
    }

    /// @notice The admin changes the set as it likes; closing the contracts to roles must not stop a withdrawal.
    function change(uint256 node, bool adds, uint32 quorum, bool closed) external {
        quorum = uint32(bound(quorum, 0, NODES));
        if (adds) try verifierSet.add(addressAt(node), quorum) {} catch {}
        else try verifierSet.remove(addressAt(node), quorum) {} catch {}
        authority.setTargetClosed(address(stakes), closed);
    }

    /// @notice All but the honest node sign two records now and then, for this network or for another.
    function prove(uint256 node, bool foreign, bytes32 record) external {
        string memory name = _names[bound(node, 1, NODES - 1)];
        IVerifierSet.Equivocation memory proof = proofOf(name);
        proof.records[1] = record;
        address domain = foreign ? address(stakes) : address(registry);
        proof = signBoth(proof, keyOf(name), block.chainid, domain);
        uint32 index = registry.indexOf(vm.addr(keyOf(name)));
        uint256 before = atStake(index);
        try verifierSet.prove(proof, address(0), 0) {
            if (foreign) broken = "a foreign proof was taken";
            if (_proven[name]) broken = "one key was proven twice";
            if (atStake(index) != 0) broken = "a proven liar kept something";
            _proven[name] = true;
            _slashedWei[index] += before;
        } catch {}
    }

    /// @notice One vote of the honest node, beside one of a liar or twice, accuses nobody honest.
    function frame(bool twice) external {
        IVerifierSet.Equivocation memory proof = proofOf("second");
        proof.signatures[0] = proofOf("honest").signatures[0];
        if (twice) proof.signatures[1] = proof.signatures[0];
        try verifierSet.prove(proof, address(0), 0) {
            broken = "somebody was framed";
        } catch {}
    }

    /*//////////////////////////////////////////////////////////////
                                  MODEL
    //////////////////////////////////////////////////////////////*/

    function indexAt(uint256 node) private view returns (uint32) {
        return _indices[node % NODES];
    }

    function addressAt(uint256 node) private view returns (address) {
        return vm.addr(keyOf(_names[node % NODES]));
    }

    function anyId(uint256 id) private view returns (uint256) {
        return bound(id, 1, stakes.slashCount() + 1);
    }

    function atStake(uint32 index) private view returns (uint256) {
        IStakeManager.Stake memory held = stakes.stakeOf(index);
        return uint256(held.activeWei) + held.unbondingWei;
    }

    function check() external view {
        require(bytes(broken).length == 0, broken);
        uint256 heldWei = stakes.creditedWei(finder) + stakes.creditedWei(address(this));
        uint256 count;
        for (uint256 i; i < NODES; ++i) {
            uint32 index = _indices[i];
            uint256 gone = _withdrawnWei[index] + _slashedWei[index];
            assertEq(atStake(index) + gone, _depositedWei[index], "deposited = active + unbonding + withdrawn + slashed");
            heldWei += atStake(index);
            if (verifierSet.isMember(addressAt(i))) {
                ++count;
                require(stakes.stakeOf(index).activeWei >= BOND, "a verifier has its bond at stake");
            }
        }
        assertEq(token.balanceOf(address(stakes)), heldWei, "balance = stakes + credits");
        assertEq(verifierSet.members().length, count, "members");
        require(count == 0 || 2 * uint256(verifierSet.quorum()) > count, "a quorum is more than half");
        require(verifierSet.standingOf(addressAt(0)) != IVerifierSet.Standing.Proven, "the honest is not proven");
    }
}

contract StakesInvariantTest {
    StakesHandler private handler;

    function setUp() public {
        handler = new StakesHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_the_model_and_the_stakes_agree() public view {
        handler.check();
    }
}
