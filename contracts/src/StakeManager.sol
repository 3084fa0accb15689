// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {IERC20, SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IJobEscrow} from "./interfaces/IJobEscrow.sol";
import {IMinerRegistry} from "./interfaces/IMinerRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {IVerifierSet} from "./interfaces/IVerifierSet.sol";

/// @title StakeManager
/// @notice See {IStakeManager}, which is the specification.
contract StakeManager is IStakeManager, AccessManaged, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IStakeManager
    uint64 public constant UNBONDING_DELAY = 14 days;

    /// @inheritdoc IStakeManager
    uint64 public constant APPEAL_WINDOW = 72 hours;

    /// @inheritdoc IStakeManager
    uint64 public constant RULING_WINDOW = 14 days;

    /// @inheritdoc IStakeManager
    address public constant BURN_ADDRESS = 0x000000000000000000000000000000000000dEaD;

    /// @inheritdoc IStakeManager
    IERC20 public immutable TOKEN;

    /// @inheritdoc IStakeManager
    IMinerRegistry public immutable REGISTRY;

    /// @inheritdoc IStakeManager
    IJobEscrow public immutable ESCROW;

    /// @inheritdoc IStakeManager
    IVerifierSet public immutable VERIFIER_SET;

    /// @inheritdoc IStakeManager
    uint128 public immutable FINDERS_FEE_WEI;

    /// @inheritdoc IStakeManager
    uint256 public slashCount;

    /// @inheritdoc IStakeManager
    mapping(bytes32 job => uint128 amountWei) public compensatedWei;

    /// @inheritdoc IStakeManager
    mapping(address account => uint128 amountWei) public creditedWei;

    /// @dev What each node has at stake.
    mapping(uint32 index => Stake) private _stakes;

    /// @dev Every slash that was ever proposed, numbered from 1.
    mapping(uint256 id => Slash) private _slashes;

    /// @param escrow Knows the jobs; its token is what is staked.
    /// @param registry Knows the nodes.
    /// @param verifierSet Checks proofs. It may be deployed after this contract.
    /// @param authority The AccessManager that knows the slasher and the arbiter.
    /// @param findersFeeWei What a finder gets.
    constructor(
        IJobEscrow escrow,
        IMinerRegistry registry,
        IVerifierSet verifierSet,
        address authority,
        uint128 findersFeeWei
    ) AccessManaged(authority) {
        IERC20 token = escrow.TOKEN();
        TOKEN = token;
        REGISTRY = registry;
        ESCROW = escrow;
        VERIFIER_SET = verifierSet;
        FINDERS_FEE_WEI = findersFeeWei;
        // The escrow pulls only from who calls it, so this approval serves the compensation of jobs alone.
        token.forceApprove(address(escrow), type(uint256).max);
    }

    /*//////////////////////////////////////////////////////////////
                                  STAKE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IStakeManager
    function stake(uint32 index, uint128 amountWei) external nonReentrant {
        _stake(index, amountWei);
    }

    /// @inheritdoc IStakeManager
    function stakeWithPermit(uint32 index, uint128 amountWei, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        try IERC20Permit(address(TOKEN)).permit(msg.sender, address(this), amountWei, deadline, v, r, s) {} catch {}
        _stake(index, amountWei);
    }

    /// @inheritdoc IStakeManager
    function requestUnstake(uint32 index, uint128 amountWei) external {
        address node = _authorised(index);
        if (amountWei == 0) revert ZeroAmount();
        Stake storage held = _stakes[index];
        uint128 activeWei = held.activeWei;
        if (amountWei > activeWei) revert OverStake(amountWei, activeWei);
        activeWei -= amountWei;
        if (VERIFIER_SET.isMember(node) && activeWei < VERIFIER_SET.BOND_WEI()) {
            revert BondLocked(VERIFIER_SET.BOND_WEI());
        }
        uint64 withdrawableAt = uint64(block.timestamp) + UNBONDING_DELAY;
        held.activeWei = activeWei;
        held.unbondingWei += amountWei;
        held.withdrawableAt = withdrawableAt;
        emit UnstakeRequested(index, amountWei, withdrawableAt);
    }

    /// @inheritdoc IStakeManager
    function withdraw(uint32 index) external nonReentrant returns (uint128 amountWei) {
        Stake storage held = _stakes[index];
        (uint128 unbondingWei, uint128 frozenWei) = (held.unbondingWei, held.frozenWei);
        if (unbondingWei == 0) revert ZeroAmount();
        if (block.timestamp < held.withdrawableAt) revert StillUnbonding(held.withdrawableAt);
        uint256 freeWei = Math.saturatingSub(uint256(held.activeWei) + unbondingWei, frozenWei);
        amountWei = uint128(Math.min(unbondingWei, freeWei));
        if (amountWei == 0) revert StakeFrozen(frozenWei);
        held.unbondingWei = unbondingWei - amountWei;
        (, address payout) = REGISTRY.infoOf(index);
        emit Withdrawn(index, payout, amountWei);
        TOKEN.safeTransfer(payout, amountWei);
    }

    /*//////////////////////////////////////////////////////////////
                                  SLASH
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IStakeManager
    function proposeSlash(uint32 index, uint128 amountWei, bytes32 job, address finder, bytes32 evidenceHash)
        external
        restricted
        returns (uint256 id)
    {
        if (amountWei == 0) revert ZeroAmount();
        if (finder == msg.sender) revert FinderIsCaller();
        ESCROW.jobOf(job); // reverts for a job that nobody can be compensated for
        Stake storage held = _stakes[index];
        // A proof may have taken what is still frozen.
        uint256 freeWei = Math.saturatingSub(uint256(held.activeWei) + held.unbondingWei, held.frozenWei);
        if (freeWei == 0) revert OverStake(amountWei, 0);
        // Not refused: a withdrawal in front of it would save all the rest.
        amountWei = uint128(Math.min(amountWei, freeWei));
        held.frozenWei += amountWei;
        id = ++slashCount;
        uint64 executableAt = uint64(block.timestamp) + APPEAL_WINDOW;
        _slashes[id] = Slash(index, Status.Proposed, executableAt, 0, amountWei, job, finder);
        emit SlashProposed(id, index, job, amountWei, finder, evidenceHash, executableAt);
    }

    /// @inheritdoc IStakeManager
    function appeal(uint256 id, bytes32 reasonHash) external {
        Slash storage slash = _inStatus(id, Status.Proposed);
        _authorised(slash.index);
        if (block.timestamp >= slash.executableAt) revert AppealTooLate(id);
        uint64 rulingUntil = uint64(block.timestamp) + RULING_WINDOW;
        slash.status = Status.Appealed;
        slash.rulingUntil = rulingUntil;
        emit SlashAppealed(id, reasonHash, rulingUntil);
    }

    /// @inheritdoc IStakeManager
    function rule(uint256 id, bool upheld) external restricted {
        Slash storage slash = _inStatus(id, Status.Appealed);
        if (block.timestamp > slash.rulingUntil) revert RulingTooLate(id);
        if (upheld) slash.status = Status.Upheld;
        else _dismiss(slash);
        emit SlashRuled(id, upheld);
    }

    /// @inheritdoc IStakeManager
    function lapse(uint256 id) external {
        Slash storage slash = _inStatus(id, Status.Appealed);
        if (block.timestamp <= slash.rulingUntil) revert TooEarly(id, slash.rulingUntil + 1);
        _dismiss(slash);
        emit SlashRuled(id, false);
    }

    /// @inheritdoc IStakeManager
    function execute(uint256 id) external nonReentrant {
        Slash storage slash = _slashes[id];
        Status status = slash.status;
        if (status != Status.Proposed && status != Status.Upheld) revert WrongStatus(id, status);
        if (block.timestamp < slash.executableAt) revert TooEarly(id, slash.executableAt);
        (uint32 index, uint128 amountWei) = (slash.index, slash.amountWei);
        slash.status = Status.Executed;
        _stakes[index].frozenWei -= amountWei;
        emit SlashExecuted(id);
        // Less is left if a proof has taken everything in the meantime.
        (uint128 takenWei, uint128 feeWei) = _take(index, amountWei, slash.job, slash.finder);
        uint128 returnedWei = _compensate(slash.job, takenWei - feeWei);
        _burn(index, slash.job, takenWei - feeWei - returnedWei);
        (address node,) = REGISTRY.infoOf(index);
        if (VERIFIER_SET.isMember(node) && _stakes[index].activeWei < VERIFIER_SET.BOND_WEI()) {
            VERIFIER_SET.expel(node);
        }
    }

    /// @inheritdoc IStakeManager
    function slashProven(uint32 index, bytes32 job, address finder)
        external
        nonReentrant
        returns (uint128 amountWei)
    {
        if (msg.sender != address(VERIFIER_SET)) revert NotVerifierSet();
        uint128 feeWei;
        (amountWei, feeWei) = _take(index, type(uint128).max, job, finder);
        _burn(index, job, amountWei - feeWei);
    }

    /// @inheritdoc IStakeManager
    function collect(address account) external nonReentrant returns (uint128 amountWei) {
        amountWei = creditedWei[account];
        if (amountWei == 0) revert ZeroAmount();
        creditedWei[account] = 0;
        emit Collected(account, amountWei);
        TOKEN.safeTransfer(account, amountWei);
    }

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IStakeManager
    function stakeOf(uint32 index) external view returns (Stake memory) {
        return _stakes[index];
    }

    /// @inheritdoc IStakeManager
    function slashOf(uint256 id) external view returns (Slash memory) {
        return _slashes[id];
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev Takes `amountWei` from the caller for a registered node, and insists that exactly that arrived.
    function _stake(uint32 index, uint128 amountWei) private {
        if (amountWei == 0) revert ZeroAmount();
        REGISTRY.infoOf(index); // reverts for an index that nobody has
        _stakes[index].activeWei += amountWei;
        emit Staked(index, msg.sender, amountWei);
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amountWei);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amountWei) revert TransferMismatch(amountWei, received);
    }

    /// @dev Takes up to `wantedWei` from a stake, first from what is active, and credits the finder's fee of it.
    function _take(uint32 index, uint128 wantedWei, bytes32 job, address finder)
        private
        returns (uint128 takenWei, uint128 feeWei)
    {
        Stake storage held = _stakes[index];
        uint128 fromActiveWei = uint128(Math.min(wantedWei, held.activeWei));
        uint128 fromUnbondingWei = uint128(Math.min(wantedWei - fromActiveWei, held.unbondingWei));
        held.activeWei -= fromActiveWei;
        held.unbondingWei -= fromUnbondingWei;
        takenWei = fromActiveWei + fromUnbondingWei;
        emit Slashed(index, job, fromActiveWei, fromUnbondingWei);
        if (finder != address(0)) feeWei = uint128(Math.min(FINDERS_FEE_WEI, takenWei / 10));
        if (feeWei != 0) _credit(finder, job, feeWei);
    }

    /// @dev Gives up to `wantedWei` into the budget of a running job; otherwise to its owner, who would get it back from
    /// there. All slashes together give no more than the job has paid, so that splitting one gains nothing.
    function _compensate(bytes32 job, uint128 wantedWei) private returns (uint128 amountWei) {
        IJobEscrow.Job memory harmed = ESCROW.jobOf(job);
        amountWei = uint128(Math.min(wantedWei, harmed.drawnWei - compensatedWei[job]));
        if (amountWei == 0) return 0;
        compensatedWei[job] += amountWei;
        if (harmed.cancelled || harmed.finalised || harmed.refunded || block.timestamp >= harmed.deadline) {
            _credit(harmed.owner, job, amountWei);
        } else {
            emit JobCompensated(job, amountWei);
            ESCROW.fund(job, amountWei);
        }
    }

    /// @dev A token that does not send it there must not stop a slash: it can be collected for that address only.
    function _burn(uint32 index, bytes32 job, uint128 amountWei) private {
        if (amountWei == 0) return;
        emit Burned(index, job, amountWei);
        if (!TOKEN.trySafeTransfer(BURN_ADDRESS, amountWei)) _credit(BURN_ADDRESS, job, amountWei);
    }

    /// @dev To be collected: a transfer that fails must not stop a slash.
    function _credit(address account, bytes32 job, uint128 amountWei) private {
        creditedWei[account] += amountWei;
        emit Credited(account, job, amountWei);
    }

    /// @dev Nothing is taken, and what was frozen is free.
    function _dismiss(Slash storage slash) private {
        slash.status = Status.Dismissed;
        _stakes[slash.index].frozenWei -= slash.amountWei;
    }

    /// @dev The slash, which must have come exactly so far.
    function _inStatus(uint256 id, Status status) private view returns (Slash storage slash) {
        slash = _slashes[id];
        if (slash.status != status) revert WrongStatus(id, slash.status);
    }

    /// @dev The node key of `index`, if the caller is it or its payout account.
    function _authorised(uint32 index) private view returns (address node) {
        address payout;
        (node, payout) = REGISTRY.infoOf(index);
        if (msg.sender != node && msg.sender != payout) revert NotNodeOrPayout(index);
    }
}
