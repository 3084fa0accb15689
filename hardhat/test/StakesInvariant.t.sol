// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {Stakes} from "./support/Stakes.sol";
import {vm} from "./support/Vm.sol";

/// @notice Four nodes, of which three have been made verifiers, and everybody around them: each role does whatever it
/// may and tries what it may not, in any order. Each node has a cheap job of its own, and may find what it did itself.
/// Node 0 is honest: it signs no two records.
contract StakesHandler is Stakes {
    uint256 private constant NODES = 4;
    uint128 private constant OWN_BUDGET = 30 ether;

    string[NODES] private _names = ["honest", "second", "third", "miner"];
    uint32[NODES] private _indices;
    mapping(uint32 index => uint256) private _depositedWei;
    mapping(uint32 index => uint256) private _withdrawnWei;
    mapping(uint32 index => uint256) private _slashedWei;
    mapping(uint256 id => uint256) private _proposedAt;
    mapping(uint256 id => bool) private _contested;
    mapping(uint256 id => bool) private _upheld;
    mapping(uint256 node => bool) private _proven;
    bytes32[] private _jobs;
    uint256 private _burnedWei;

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
            openOwnJob(i);
        }
        _jobs.push(JOB);
    }

    function openOwnJob(uint256 node) private {
        bytes32 job = keccak256(abi.encode("a job of", node));
        _jobs.push(job);
        token.mint(addressAt(node), OWN_BUDGET);
        vm.startPrank(addressAt(node));
        token.approve(address(escrow), OWN_BUDGET);
        escrow.create(job, OWN_BUDGET, OWN_BUDGET, uint64(block.timestamp + 100 days));
        vm.stopPrank();
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

    function collect(uint256 account) external {
        try stakes.collect(finderAt(account)) {} catch {}
        try stakes.collect(address(this)) {} catch {}
    }

    function cancel(uint256 node) external {
        vm.prank(addressAt(node));
        try escrow.cancel(_jobs[node % NODES]) {} catch {}
    }

    function refund(uint256 job) external {
        try escrow.refund(jobAt(job)) {} catch {}
    }

    function pass(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 20 days));
    }

    /*//////////////////////////////////////////////////////////////
                              HOSTILE ROLES
    //////////////////////////////////////////////////////////////*/

    function draw(uint256 job, uint256 amount) external {
        vm.prank(settler);
        try escrow.draw(jobAt(job), 1, uint128(bound(amount, 1, OWN_BUDGET))) {} catch {}
    }

    function proposeSlash(uint256 node, uint256 amount, uint256 job, uint256 finds) external {
        uint128 amountWei = uint128(bound(amount, 1, 2 * BOND));
        vm.prank(slasher);
        try stakes.proposeSlash(indexAt(node), amountWei, jobAt(job), finderAt(finds), EVIDENCE) returns (uint256 id) {
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
        IStakeManager.Slash memory slash = stakes.slashOf(id);
        (uint256 stakedWei, uint256 givenWei) = (atStake(slash.index), stakes.compensatedWei(slash.job));
        try stakes.execute(id) {
            uint256 takenWei = stakedWei - atStake(slash.index);
            if (block.timestamp < _proposedAt[id] + 72 hours) broken = "a slash passed the window";
            if (_contested[id] && !_upheld[id]) broken = "a contested slash was carried out";
            if (takenWei > slash.amountWei) broken = "more than proposed was taken";
            book(slash.index, takenWei, feeOf(takenWei, slash.finder), stakes.compensatedWei(slash.job) - givenWei);
        } catch {}
    }

    function steal(uint256 node, address caller, uint256 job) external {
        if (caller == address(verifierSet)) return;
        vm.prank(caller);
        try stakes.slashProven(indexAt(node), jobAt(job), finder) {
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

    /// @notice All but the honest node sign two records now and then, of any job, for this network or for another, and
    /// anybody finds them, the liar too.
    function prove(uint256 node, bool foreign, bytes32 record, uint256 job, uint256 finds) external {
        node = bound(node, 1, NODES - 1);
        IVerifierSet.Equivocation memory proof = proofOf(_names[node]);
        (proof.job, proof.records[1]) = (jobAt(job), record);
        proof = signBoth(proof, keyOf(_names[node]), block.chainid, foreign ? address(stakes) : address(registry));
        address to = finderAt(finds);
        announce(proof, to);
        (uint256 stakedWei, uint256 ownWei) = (atStake(indexAt(node)), ownOf(node));
        try verifierSet.prove(proof, to, 0) {
            uint256 feeWei = feeOf(stakedWei, to);
            if (foreign) broken = "a foreign proof was taken";
            if (_proven[node]) broken = "one key was proven twice";
            if (atStake(indexAt(node)) != 0) broken = "a proven liar kept something";
            if (ownOf(node) > ownWei + (to == addressAt(node) ? feeWei : 0)) broken = "a liar saved more than the fee";
            _proven[node] = true;
            book(indexAt(node), stakedWei, feeWei, 0);
        } catch {}
    }

    function announce(IVerifierSet.Equivocation memory proof, address to) private {
        try verifierSet.announce(verifierSet.commitmentOf(proof, to, 0)) {} catch {}
        vm.roll(block.number + 1);
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

    /// @dev One of those with a budget, or one without.
    function jobAt(uint256 job) private view returns (bytes32) {
        job %= _jobs.length + 1;
        return job == _jobs.length ? keccak256("without a budget") : _jobs[job];
    }

    /// @dev A node, a stranger, or nobody.
    function finderAt(uint256 account) private view returns (address) {
        account %= NODES + 2;
        if (account == NODES) return finder;
        return account > NODES ? address(0) : addressAt(account);
    }

    function feeOf(uint256 takenWei, address to) private pure returns (uint256) {
        if (to == address(0)) return 0;
        return takenWei / 10 < FEE ? takenWei / 10 : FEE;
    }

    /// @dev What a node has outside its stake: on its accounts, to be collected, and in its own job.
    function ownOf(uint256 node) private view returns (uint256) {
        (address account, address payout) = registry.infoOf(indexAt(node));
        uint256 creditedWei = uint256(stakes.creditedWei(account)) + stakes.creditedWei(payout);
        uint256 heldWei = token.balanceOf(account) + token.balanceOf(payout);
        return creditedWei + heldWei + escrow.remainingWei(_jobs[node % NODES]);
    }

    function book(uint32 index, uint256 takenWei, uint256 feeWei, uint256 givenWei) private {
        _slashedWei[index] += takenWei;
        if (feeWei + givenWei > takenWei) broken = "more was given than was taken";
        else _burnedWei += takenWei - feeWei - givenWei;
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
            heldWei += atStake(index) + stakes.creditedWei(addressAt(i));
            if (verifierSet.isMember(addressAt(i))) {
                ++count;
                require(stakes.stakeOf(index).activeWei >= BOND, "a verifier has its bond at stake");
            }
        }
        assertEq(token.balanceOf(address(stakes)), heldWei, "balance = stakes + credits");
        assertEq(token.balanceOf(burned), _burnedWei, "burned = slashed - fees - what jobs got");
        checkJobs();
        assertEq(verifierSet.members().length, count, "members");
        require(count == 0 || 2 * uint256(verifierSet.quorum()) > count, "a quorum is more than half");
        require(verifierSet.standingOf(addressAt(0)) != IVerifierSet.Standing.Proven, "the honest is not proven");
    }

    function checkJobs() private view {
        uint256 remainingWei;
        for (uint256 i; i < _jobs.length; ++i) {
            remainingWei += escrow.remainingWei(_jobs[i]);
            require(stakes.compensatedWei(_jobs[i]) <= escrow.jobOf(_jobs[i]).drawnWei, "a job got more than it has paid");
        }
        assertEq(token.balanceOf(address(escrow)), remainingWei, "the escrow holds what its jobs have");
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
