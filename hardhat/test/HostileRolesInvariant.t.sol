// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {StakeManager} from "../../contracts/src/StakeManager.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Every role but the guardian is hostile: the verifiers sign whatever the poster wants, who posts whatever the
/// contract takes, the settler draws and finalises at will, slasher and arbiter take the verifiers' stakes, and the admin
/// hands out roles, changes the set and closes contracts without any delay. The guardian vetoes now and then. Anybody
/// claims, funds, and shows frauds.
contract HostileRoles is System {
    uint64 private constant NODES = 4;
    uint256 private constant BOUNTY = 3 gwei;
    bytes32 private constant JOB = keccak256("job");

    PlainToken public token = new PlainToken();
    string public broken;
    uint256 public fundedWei;
    uint256 public bondedWei;
    uint256 public paidWei;
    mapping(uint256 day => uint256) public promisedGwei;

    bytes32[] private _active;
    bytes32[] private _waiting;
    uint256 private _activeAt;
    uint256 private _postedOn;
    uint256 private _promised;
    uint64[NODES] private _counters;
    address private _poster;
    uint64 private immutable _window;
    uint64 private immutable _capGwei;
    StakeManager private immutable _stakes;
    address private immutable _slasher = makeAddress("slasher");
    address private immutable _arbiter = makeAddress("arbiter");

    constructor(uint64 window, uint64 capGwei) {
        vm.warp(1_800_000_000);
        (_window, _capGwei) = (window, capGwei);
        deploy(address(token), window, _capGwei, BOUNTY);
        _stakes = StakeManager(address(signers.STAKES()));
        grant(address(_stakes), StakeManager.proposeSlash.selector, 4, _slasher);
        grant(address(_stakes), StakeManager.rule.selector, 5, _arbiter);
        token.mint(address(this), 1e30);
        token.approve(address(distributor), type(uint256).max);
        token.approve(address(escrow), type(uint256).max);
        token.approve(address(_stakes), type(uint256).max);
        for (uint32 index = 1; index <= SIGNERS; ++index) _stakes.stake(index, 1e21);
        escrow.create(JOB, 1e24, 1e24, uint64(block.timestamp + 300 days));
        _poster = poster;
        fundOrBond(1e12, false);
        fundOrBond(9, true);
    }

    /*//////////////////////////////////////////////////////////////
                             HOSTILE ROLES
    //////////////////////////////////////////////////////////////*/

    /// @notice Verifiers and poster together: entries that fall, that name an index twice, totals out of the air.
    function postAnything(uint256 seed, uint64 total, bool lies) external {
        bytes32[] memory entries = new bytes32[](NODES);
        uint64 sum;
        for (uint32 i; i < NODES; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            uint64 former = _active.length == 0 ? 0 : uint64(uint256(_active[i]));
            uint64 gwei_ = lies ? uint64(random % 1e12) : former + uint64(random % 1e10);
            uint32 index = lies && random % 5 == 0 ? uint32(random >> 64) % uint32(NODES) : i;
            entries[i] = Tree.pack(index, accountOf(i), gwei_);
            sum += gwei_;
        }
        uint64 before = distributor.totalGwei();
        if (lies) sum = uint64(bound(total, before / 2, before + 2 * _capGwei));
        else if (sum < before) sum = before;
        bytes32 root = Tree.root(treeOf(entries));
        uint64 next = distributor.nextBatch();
        IVerifierSet.Signature[] memory signatures = signRoot(next, root, sum);
        vm.prank(_poster);
        try distributor.postRoot(next, root, sum, DATA_HASH, signatures) {
            if (_waiting.length != 0) broken = "a waiting root was replaced";
            if (uint256(sum) * 1 gwei > fundedWei) broken = "a root was posted without funds";
            if (bondedWei < BOUNTY) broken = "a root was posted without a bounty in place";
            if (!isQuorum(signatures)) broken = "a root was posted without a quorum";
            _waiting = entries;
            _activeAt = block.timestamp + _window;
            _postedOn = block.timestamp / 1 days;
            _promised = sum - before;
            promisedGwei[_postedOn] += _promised;
            if (promisedGwei[_postedOn] > _capGwei) broken = "the roots of a day passed the cap";
        } catch {}
    }

    function drawAnything(uint128 amount, bool ends) external {
        uint64 next = distributor.nextBatch();
        vm.prank(settler);
        if (ends) {
            try escrow.finalise(JOB, next) {} catch {}
        } else {
            amount = uint128(bound(amount, 0, 1e21));
            try escrow.draw(JOB, next, amount) {
                fundedWei += amount;
            } catch {}
        }
    }

    /// @notice The admin closes and opens the contract to all roles, and makes somebody else the poster.
    function rule(uint8 closes, address other) external {
        authority.setTargetClosed(address(distributor), closes % 4 == 0);
        if (other == address(0) || other == guardian || other == address(this)) return;
        authority.revokeRole(1, _poster);
        authority.grantRole(1, other, 0);
        _poster = other;
    }

    /// @notice The admin takes verifiers out and in, with any quorum that the set allows.
    function change(uint256 which, uint8 removes, uint32 needed) external {
        address verifier = vm.addr(signerKeys[which % SIGNERS]);
        needed = uint32(bound(needed, 1, SIGNERS));
        if (removes % 4 == 0) try signers.remove(verifier, needed) {} catch {}
        else try signers.add(verifier, needed) {} catch {}
    }

    /// @notice Slasher and arbiter agree, and still wait for 72 hours.
    function slash(uint32 index, uint128 amount, bool early) external {
        index = uint32(bound(index, 1, SIGNERS));
        (address verifier,) = signers.REGISTRY().infoOf(index);
        vm.prank(_slasher);
        try _stakes.proposeSlash(index, uint128(bound(amount, 1, 1e21)), JOB, stranger, DATA_HASH) returns (uint256 id) {
            vm.prank(verifier);
            _stakes.appeal(id, DATA_HASH);
            vm.prank(_arbiter);
            _stakes.rule(id, true);
            if (early) execute(id);
        } catch {}
    }

    function execute(uint256 id) public {
        id = bound(id, 1, _stakes.slashCount() + 1);
        uint64 notBefore = _stakes.slashOf(id).executableAt;
        try _stakes.execute(id) {
            if (block.timestamp < notBefore) broken = "a slash passed the window";
        } catch {}
    }

    /*//////////////////////////////////////////////////////////////
                         GUARDIAN AND ANYBODY
    //////////////////////////////////////////////////////////////*/

    /// @notice Nobody but the guardian vetoes, whoever tries before.
    function veto(address caller, bool guards) external {
        if (caller != guardian && caller != address(this)) {
            vm.prank(caller);
            try distributor.veto() {
                broken = "somebody else vetoed";
            } catch {}
        }
        if (!guards) return;
        vm.prank(guardian);
        try distributor.veto() {
            if (_waiting.length == 0) broken = "an active root was vetoed";
            cancelled();
        } catch {}
    }

    function proveDecrease(uint256 one, uint256 other) external {
        if (_waiting.length == 0 || _active.length == 0) return;
        (one, other) = (bound(one, 0, NODES - 1), bound(other, 0, NODES - 1));
        for (uint256 i; i < NODES * NODES && !falls(one, other); ++i) {
            if (++one == NODES) (one, other) = (0, (other + 1) % NODES);
        }
        uint256 held = token.balanceOf(address(this));
        try distributor.proveDecrease(proven(_active, one), proven(_waiting, other)) {
            if (!falls(one, other)) broken = "an honest entry was called a decrease";
            bondedWei -= token.balanceOf(address(this)) - held;
            cancelled();
        } catch {
            if (falls(one, other)) broken = "a decrease was not taken";
        }
    }

    function proveDuplicate(uint256 one, uint256 other) external {
        if (_waiting.length == 0) return;
        (one, other) = (bound(one, 0, NODES - 1), bound(other, 0, NODES - 1));
        for (uint256 i; i < NODES * NODES && !isTwice(one, other); ++i) {
            if (++one == NODES) (one, other) = (0, (other + 1) % NODES);
        }
        uint256 held = token.balanceOf(address(this));
        try distributor.proveDuplicate(proven(_waiting, one), proven(_waiting, other)) {
            if (!isTwice(one, other)) broken = "an honest entry was called a duplicate";
            bondedWei -= token.balanceOf(address(this)) - held;
            cancelled();
        } catch {
            if (isTwice(one, other)) broken = "a duplicate was not taken";
        }
    }

    function fundOrBond(uint256 amount, bool bonds) public {
        amount = bound(amount, 1, bonds ? 10 : 1e13) * 1 gwei;
        if (bonds) {
            distributor.bond(amount);
            bondedWei += amount;
        } else {
            distributor.fund(amount);
            fundedWei += amount;
        }
    }

    function pass(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 2 * _window));
        if (_waiting.length == 0 || block.timestamp < _activeAt) return;
        _active = _waiting;
        delete _waiting;
    }

    function claim(uint256 node) external {
        node = bound(node, 0, NODES - 1);
        if (_waiting.length != 0) {
            try distributor.claim(_waiting[node], proven(_waiting, node).proof) {
                // A waiting root may be the active one over again; then its entries pay.
                if (Tree.root(treeOf(_waiting)) != Tree.root(treeOf(_active))) broken = "a waiting root paid";
                else settle(node);
            } catch {}
        }
        if (_active.length == 0) return;
        uint64 due = uint64(uint256(_active[node]));
        uint64 paid = _counters[indexOf(_active[node])];
        try distributor.claim(_active[node], proven(_active, node).proof) {
            if (due <= paid) broken = "a claim paid twice";
            settle(node);
        } catch {
            // Roots of liars may promise more than there is: claims on them end with the tokens.
            bool isCovered = due > paid && uint256(due - paid) * 1 gwei <= token.balanceOf(address(distributor));
            if (isCovered) broken = "a claim on an active root failed";
        }
    }

    /*//////////////////////////////////////////////////////////////
                                  MODEL
    //////////////////////////////////////////////////////////////*/

    function cancelled() private {
        promisedGwei[_postedOn] -= _promised;
        delete _waiting;
    }

    function settle(uint256 node) private {
        uint64 due = uint64(uint256(_active[node]));
        uint32 index = indexOf(_active[node]);
        if (due <= _counters[index]) return;
        paidWei += uint256(due - _counters[index]) * 1 gwei;
        _counters[index] = due;
    }

    function isQuorum(IVerifierSet.Signature[] memory signatures) private view returns (bool) {
        for (uint256 i; i < signatures.length; ++i) if (!signers.isMember(signatures[i].verifier)) return false;
        return signatures.length >= signers.quorum();
    }

    function falls(uint256 one, uint256 other) private view returns (bool) {
        return indexOf(_active[one]) == indexOf(_waiting[other])
            && uint64(uint256(_waiting[other])) < uint64(uint256(_active[one]));
    }

    function isTwice(uint256 one, uint256 other) private view returns (bool) {
        return _waiting[one] != _waiting[other] && indexOf(_waiting[one]) == indexOf(_waiting[other]);
    }

    function indexOf(bytes32 entry) private pure returns (uint32) {
        return uint32(uint256(entry) >> 224);
    }

    function accountOf(uint32 node) private pure returns (address) {
        return address(uint160(0xabc000 + node));
    }

    function checkBroken() external view {
        require(bytes(broken).length == 0, broken);
    }

    function checkBalance() external view {
        assertEq(token.balanceOf(address(distributor)), fundedWei + bondedWei - paidWei, "funded - paid + bond");
        assertEq(distributor.bondWei(), bondedWei, "bond");
    }

    function checkCounters() external view {
        for (uint32 i; i < NODES; ++i) assertEq(distributor.claimedGwei(i), _counters[i], "counter");
    }

    function checkActive() external view {
        (, bytes32 root) = distributor.activeRoot();
        assertEq(root, _active.length == 0 ? bytes32(0) : Tree.root(treeOf(_active)), "active root");
    }
}

abstract contract HostileRolesInvariants {
    HostileRoles private handler;

    constructor(uint64 window, uint64 capGwei) {
        handler = new HostileRoles(window, capGwei);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_nothing_happens_that_must_not() public view {
        handler.checkBroken();
    }

    function invariant_distributor_holds_what_is_funded_less_paid_and_the_bond() public view {
        handler.checkBalance();
    }

    function invariant_counters_never_fall() public view {
        handler.checkCounters();
    }

    function invariant_no_root_is_active_early_and_a_cancelled_one_leaves_the_former() public view {
        handler.checkActive();
    }
}

contract HostileRolesInvariantTest is HostileRolesInvariants(24 hours, 1e12) {}

/// @notice With the shortest window several roots share a day; its cap is about what two honest ones raise the total by.
contract HostileRolesOnOneDayInvariantTest is HostileRolesInvariants(6 hours, 3e10) {}
