// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IJobEscrow} from "./IJobEscrow.sol";
import {IMinerRegistry} from "./IMinerRegistry.sol";
import {IVerifierSet} from "./IVerifierSet.sol";

/// @title IStakeManager
/// @notice Holds what registered nodes put at stake, and takes it from who is shown to have cheated.
/// @dev There are two ways to a slash. The slasher proposes one with the hash of published evidence: the node has 72
/// hours to appeal, and without an appeal anybody executes it then; with one, it needs the arbiter's word, and lapses
/// if the arbiter says nothing for 14 days. Or the verifier set has checked a proof on chain: then everything that the
/// signer has at stake is gone at once.
///
/// Of what is taken the finder whom the proposal or proof names has a fixed fee, and whoever sends the transaction
/// nothing. The rest of a proposed slash goes to the harmed job, up to what that job has paid for work: more cannot have
/// been harmed, and a cheap job of the slasher's own would take a whole stake otherwise. Everything else is burned. What a
/// proof takes is always burned: anybody opens a job for one wei, so a liar would prove itself for a job of its own, and
/// have its stake back before anybody else shows the proof.
///
/// Per stake, at all times: deposited = active + unbonding + withdrawn + slashed. Per slash: taken = fee + what the job
/// got + burned.
interface IStakeManager {
    /// @notice What a node has at stake.
    /// @param activeWei At stake until its node asks for it back.
    /// @param unbondingWei Asked for back, and still at stake.
    /// @param frozenWei What proposed slashes would take; so much stays until they are decided.
    /// @param withdrawableAt First second at which `unbondingWei` can be withdrawn.
    struct Stake {
        uint128 activeWei;
        uint128 unbondingWei;
        uint128 frozenWei;
        uint64 withdrawableAt;
    }

    /// @notice How far a proposed slash has come.
    enum Status {
        None,
        Proposed,
        Appealed,
        Upheld,
        Dismissed,
        Executed
    }

    /// @notice A proposed slash.
    /// @param index Whose stake.
    /// @param status How far it has come.
    /// @param executableAt End of the time to appeal; nothing is taken before.
    /// @param rulingUntil After an appeal, the last second at which the arbiter can rule.
    /// @param amountWei What is to be taken.
    /// @param job The harmed job.
    /// @param finder Who gets the finder's fee; zero for nobody.
    struct Slash {
        uint32 index;
        Status status;
        uint64 executableAt;
        uint64 rulingUntil;
        uint128 amountWei;
        bytes32 job;
        address finder;
    }

    /*//////////////////////////////////////////////////////////////
                                  EVENTS
    //////////////////////////////////////////////////////////////*/

    /// @notice `funder` put `amountWei` at stake for `index`.
    event Staked(uint32 indexed index, address indexed funder, uint128 amountWei);

    /// @notice `amountWei` of the active stake of `index` is unbonding; all that is can be withdrawn at `withdrawableAt`.
    event UnstakeRequested(uint32 indexed index, uint128 amountWei, uint64 withdrawableAt);

    /// @notice `amountWei` of the unbonding stake of `index` went to its payout account `to`.
    event Withdrawn(uint32 indexed index, address indexed to, uint128 amountWei);

    /// @notice The slasher wants to take `amountWei`; `evidenceHash` is that of the published evidence.
    event SlashProposed(
        uint256 indexed id,
        uint32 indexed index,
        bytes32 indexed job,
        uint128 amountWei,
        address finder,
        bytes32 evidenceHash,
        uint64 executableAt
    );

    /// @notice The node contests the slash; `reasonHash` is that of its published reasons.
    event SlashAppealed(uint256 indexed id, bytes32 reasonHash, uint64 rulingUntil);

    /// @notice The arbiter has ruled, or has let its time pass: then `upheld` is false.
    event SlashRuled(uint256 indexed id, bool upheld);

    /// @notice The slash is carried out.
    event SlashExecuted(uint256 indexed id);

    /// @notice So much of the stake of `index` is gone, for false work in `job`, or false votes on it.
    event Slashed(uint32 indexed index, bytes32 indexed job, uint128 fromActiveWei, uint128 fromUnbondingWei);

    /// @notice `amountWei` of a slash went into the budget of `job`.
    event JobCompensated(bytes32 indexed job, uint128 amountWei);

    /// @notice `amountWei` of a slash belongs to `account`, which collects it: a finder's fee, or the share of a job
    /// that has ended, which belongs to the job's owner. Of `BURN_ADDRESS`: what the token would not send there.
    event Credited(address indexed account, bytes32 indexed job, uint128 amountWei);

    /// @notice `amountWei` that was taken from `index` is nobody's any more: it is at `BURN_ADDRESS`, or credited to it by
    /// the next event of this contract.
    event Burned(uint32 indexed index, bytes32 indexed job, uint128 amountWei);

    /// @notice What was credited to `account` was sent to it.
    event Collected(address indexed account, uint128 amountWei);

    /*//////////////////////////////////////////////////////////////
                                  ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice An amount of zero.
    error ZeroAmount();

    /// @notice The stake does not hold that much, or nothing that a slash could still take.
    error OverStake(uint256 wantedWei, uint256 heldWei);

    /// @notice A verifier keeps its bond at stake for as long as it belongs to the set.
    error BondLocked(uint256 bondWei);

    /// @notice Nothing can be withdrawn before then.
    error StillUnbonding(uint64 withdrawableAt);

    /// @notice Proposed slashes hold everything that is left.
    error StakeFrozen(uint128 frozenWei);

    /// @notice Only the node key or its payout account may do this.
    error NotNodeOrPayout(uint32 index);

    /// @notice Only the verifier set may do this.
    error NotVerifierSet();

    /// @notice Who proposes a slash is not its finder.
    error FinderIsCaller();

    /// @notice The slash is not in a state in which this can be done.
    error WrongStatus(uint256 id, Status status);

    /// @notice The time to appeal is over.
    error AppealTooLate(uint256 id);

    /// @notice The time to appeal is not over, or the arbiter's time to rule is not.
    error TooEarly(uint256 id, uint64 notBefore);

    /// @notice The arbiter's time to rule is over.
    error RulingTooLate(uint256 id);

    /// @notice The token moved `received` instead of `amount` (a fee on transfer, a lie, or a reentrant call).
    error TransferMismatch(uint256 amount, uint256 received);

    /*//////////////////////////////////////////////////////////////
                                  STAKE
    //////////////////////////////////////////////////////////////*/

    /// @notice Puts `amountWei` of the caller's tokens at stake for the node `index`. Anybody may; it becomes the node's.
    function stake(uint32 index, uint128 amountWei) external;

    /// @notice Like `stake`, with the caller's permit (EIP-2612) instead of an approval before.
    /// @dev A permit that somebody else has sent first is no obstacle: the allowance is there then.
    function stakeWithPermit(uint32 index, uint128 amountWei, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external;

    /// @notice Asks for `amountWei` back, which can be withdrawn in 14 days and is at stake until then. Only the node
    /// key or its payout account. Everything that is unbonding already waits with it.
    function requestUnstake(uint32 index, uint128 amountWei) external;

    /// @notice Sends what has waited for 14 days to the node's payout account, but for what proposed slashes hold.
    /// Anybody may send this.
    /// @return amountWei What was sent.
    function withdraw(uint32 index) external returns (uint128 amountWei);

    /*//////////////////////////////////////////////////////////////
                                  SLASH
    //////////////////////////////////////////////////////////////*/

    /// @notice Proposes to take `amountWei` from a stake, or what it holds that is not frozen, if that is less but not
    /// nothing. Only the slasher.
    /// @param index Whose stake.
    /// @param amountWei What is to be taken at most; `SlashProposed` and `slashOf` say what is.
    /// @param job The harmed job, which the escrow knows. It gets no more than it has paid for work.
    /// @param finder Who gets the finder's fee: not the caller; zero for nobody.
    /// @param evidenceHash Hash of the evidence, which is published elsewhere.
    /// @return id Number of the proposal.
    function proposeSlash(uint32 index, uint128 amountWei, bytes32 job, address finder, bytes32 evidenceHash)
        external
        returns (uint256 id);

    /// @notice Contests a proposed slash within 72 hours. Only the node key or its payout account.
    /// @param id Number of the proposal.
    /// @param reasonHash Hash of the reasons, which are published elsewhere.
    function appeal(uint256 id, bytes32 reasonHash) external;

    /// @notice Decides on an appeal, within 14 days of it. Only the arbiter. What is upheld is executed after the time
    /// to appeal like any other slash.
    function rule(uint256 id, bool upheld) external;

    /// @notice Ends an appeal on which the arbiter has not ruled in time: nothing is taken. Anybody may send this.
    function lapse(uint256 id) external;

    /// @notice Carries out a slash that nobody has contested for 72 hours, or that was upheld. Anybody may send this.
    function execute(uint256 id) external;

    /// @notice Takes everything that `index` has at stake, and burns it but for the finder's fee. Only the verifier set,
    /// which has checked a proof.
    /// @param index Whose stake.
    /// @param job What the proof is about. It gets nothing, and the escrow need not know it.
    /// @param finder Who gets the finder's fee; zero for nobody.
    /// @return amountWei What was taken.
    function slashProven(uint32 index, bytes32 job, address finder) external returns (uint128 amountWei);

    /// @notice Sends what was credited to `account`. Anybody may send this.
    function collect(address account) external returns (uint128 amountWei);

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @notice How long an unstake request waits, in seconds.
    function UNBONDING_DELAY() external view returns (uint64);

    /// @notice How long a proposed slash can be appealed, in seconds.
    function APPEAL_WINDOW() external view returns (uint64);

    /// @notice How long the arbiter can rule on an appeal, in seconds.
    function RULING_WINDOW() external view returns (uint64);

    /// @notice What a finder gets, in wei: never more than a tenth of what was taken.
    function FINDERS_FEE_WEI() external view returns (uint128);

    /// @notice Where tokens go that shall be nobody's. Nobody can have its key.
    function BURN_ADDRESS() external view returns (address);

    /// @notice The token that is staked.
    function TOKEN() external view returns (IERC20);

    /// @notice Knows the nodes and their payout accounts.
    function REGISTRY() external view returns (IMinerRegistry);

    /// @notice Knows the jobs.
    function ESCROW() external view returns (IJobEscrow);

    /// @notice Checks proofs, and keeps bonds.
    function VERIFIER_SET() external view returns (IVerifierSet);

    /// @notice What `index` has at stake.
    function stakeOf(uint32 index) external view returns (Stake memory);

    /// @notice A proposed slash; all zeros if there is none of that number.
    function slashOf(uint256 id) external view returns (Slash memory);

    /// @notice How many slashes were proposed; the highest number.
    function slashCount() external view returns (uint256);

    /// @notice What slashes gave `job` so far, in wei: never more than it has paid for work.
    function compensatedWei(bytes32 job) external view returns (uint128);

    /// @notice What `account` can collect, in wei.
    function creditedWei(address account) external view returns (uint128);
}
