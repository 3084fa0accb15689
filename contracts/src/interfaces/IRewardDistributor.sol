// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IVerifierSet} from "./IVerifierSet.sol";

/// @title IRewardDistributor
/// @notice Pays cumulative rewards against a Merkle root that is posted per batch and waits before it counts.
///
/// @dev One entry is one word: `index (32 bits) | account (160) | cumulative (64, in units of 1e9 wei)`. `cumulative`
/// is everything the index has earned since the beginning; a counter per index holds what of it was paid, so a claim
/// pays the difference and a second one nothing.
///
/// Leaf = `keccak256(keccak256(domain ‖ entry))` with `domain = keccak256(chainid, this)`: no proof works on another
/// chain or contract. The tree holds the entries in index order and is padded with zero leaves to a power of two;
/// pairs are hashed in sorted order, as OpenZeppelin's `MerkleProof` does.
///
/// What each role can do: the poster proposes a root that a quorum of the verifiers has signed, the guardian can veto a
/// waiting one and nothing else, and nobody can shorten the window, replace a waiting root, move tokens, or pause claims
/// on an active root.
///
/// Anybody can end a waiting root with a proof that no honest one allows: that it lowers what an index has earned, or
/// that it names an index twice. Who brings the proof is paid `BOUNTY_WEI` out of a bond that lies beside the funds; no
/// root can be posted while it holds less. Whoever runs the poster puts it there, and nobody takes it back. So a poster
/// that proves its own fraud wins back what was its own, and nothing of anybody else's.
interface IRewardDistributor {
    /// @notice An entry, and that a root holds it.
    /// @param entry The packed word.
    /// @param proof Sibling hashes from the leaf to the root.
    struct Proven {
        bytes32 entry;
        bytes32[] proof;
    }

    /*//////////////////////////////////////////////////////////////
                                  EVENTS
    //////////////////////////////////////////////////////////////*/

    /// @notice `funder` put `amount` wei in place for coming roots.
    event Funded(address indexed funder, uint256 amount);

    /// @notice A root waits and becomes active at `activeAt` unless it is vetoed.
    /// @param batch Number of the root; they count 1, 2, 3, …
    /// @param root The Merkle root.
    /// @param totalGwei Sum of `cumulative` over all entries.
    /// @param dataHash Hash of the published entries.
    /// @param activeAt First second at which the root pays.
    event RootPosted(uint64 indexed batch, bytes32 root, uint128 totalGwei, bytes32 dataHash, uint64 activeAt);

    /// @notice The waiting root of `batch` is cancelled: by the guardian, or by the proof that the next event of this
    /// contract tells of. That number is posted again.
    event RootVetoed(uint64 indexed batch, bytes32 root);

    /// @notice `funder` added `amount` wei to the bond.
    event Bonded(address indexed funder, uint256 amount);

    /// @notice The root that was cancelled just before treated `index` as no honest root does; `finder` was paid
    /// `bountyWei` out of the bond: nothing where the token refused.
    event FraudProven(uint64 indexed batch, uint32 indexed index, address indexed finder, uint256 bountyWei);

    /// @notice `entry` was paid up to its cumulative amount.
    /// @param index Who earned it; the first field of `entry`.
    /// @param entry The whole packed entry: index, account and cumulative amount.
    event Claimed(uint32 indexed index, bytes32 entry);

    /// @notice Each of `entries` was paid up to its cumulative amount, by one push.
    event SubtreeClaimed(bytes32[] entries);

    /// @notice The payment of the claim before this event in the same transaction went to `to`, as the account signed.
    event Redirected(uint32 indexed index, address indexed to);

    /// @notice A subtree push left `entry` unpaid because the token refused the transfer. It can be claimed as before.
    event Skipped(uint32 indexed index, bytes32 entry);

    /*//////////////////////////////////////////////////////////////
                                  ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice An amount of zero.
    error ZeroAmount();

    /// @notice The window is shorter than the floor, or absurdly long.
    error WindowOutOfRange(uint64 window);

    /// @notice A root is still waiting; it can be vetoed but not replaced.
    error RootWaiting(uint64 activeAt);

    /// @notice No root is waiting, so there is nothing to veto.
    error NoRootWaiting();

    /// @notice The next root must have the number `expected`.
    error WrongBatch(uint64 expected);

    /// @notice A root of zero.
    error ZeroRoot();

    /// @notice The total is below that of the former root, or beyond 64 bits.
    error TotalOutOfRange(uint128 totalGwei);

    /// @notice The roots of one day would promise more than the daily cap.
    error DailyCapExceeded(uint256 wouldBeGwei);

    /// @notice The funds in place do not cover the total.
    error NotFunded(uint256 neededWei, uint256 fundedWei);

    /// @notice The bond does not cover a bounty.
    error BondMissing(uint256 bondWei, uint256 bountyWei);

    /// @notice The bond and the bounty are whole gwei, and at most 281,474 tokens.
    error BondOutOfRange(uint256 amount);

    /// @notice Both entries are in their roots, and an honest root could hold them.
    error NoFraud();

    /// @notice The token moved `received` instead of `amount` (a fee on transfer, a lie, or a reentrant call).
    error TransferMismatch(uint256 amount, uint256 received);

    /// @notice The entry is not in an active root.
    error InvalidProof();

    /// @notice The entry was paid already.
    error NothingToClaim();

    /// @notice A subtree has 1, 2, 4, 8, … entries.
    error NotPowerOfTwo(uint256 length);

    /// @notice The signature was presented after its deadline.
    error SignatureExpired();

    /// @notice The signature is not one of the entry's account over this claim.
    error InvalidSignature();

    /*//////////////////////////////////////////////////////////////
                              FUND AND POST
    //////////////////////////////////////////////////////////////*/

    /// @notice Moves `amount` wei from the caller into the distributor, to cover coming roots. Anybody may.
    function fund(uint256 amount) external;

    /// @notice Posts the root of the next batch. Only the poster, and only what a quorum of the verifiers has signed.
    /// @param batch Must be the last batch's number plus one; a vetoed number is posted again.
    /// @param root The Merkle root.
    /// @param totalGwei Sum of `cumulative` over all entries; never less than before, and covered by funds in place. The
    /// bond must cover a bounty too.
    /// @param dataHash Hash of the published entries, so that everybody can check what they downloaded.
    /// @param signatures The verifiers' signatures over `rootDigest`, as `VerifierSet.checkQuorum` takes them.
    function postRoot(
        uint64 batch,
        bytes32 root,
        uint128 totalGwei,
        bytes32 dataHash,
        IVerifierSet.Signature[] calldata signatures
    ) external;

    /// @notice Cancels the waiting root. Only the guardian. The former root stays claimable.
    function veto() external;

    /// @notice Moves `amount` wei from the caller into the bond that bounties are paid from. It stays there. Anybody may.
    function bond(uint256 amount) external;

    /// @notice Cancels the waiting root, because an index has earned less in it than in the active one. Anybody may; the
    /// caller is paid the bounty.
    /// @param former The index's entry in the active root, and its proof.
    /// @param entry The index's entry in the waiting root, and its proof.
    function proveDecrease(Proven calldata former, Proven calldata entry) external;

    /// @notice Cancels the waiting root, because it holds two different entries of one index. Anybody may; the caller is
    /// paid the bounty.
    /// @param one An entry of the index in the waiting root, and its proof.
    /// @param other Another one.
    function proveDuplicate(Proven calldata one, Proven calldata other) external;

    /*//////////////////////////////////////////////////////////////
                                  CLAIM
    //////////////////////////////////////////////////////////////*/

    /// @notice Pays what `entry` has earned and not yet received to the entry's account. Anybody may send this.
    /// @dev An entry of the former root is honoured until the first claim or post on its successor; as amounts are
    /// cumulative, it can only pay less.
    /// @param entry The packed entry.
    /// @param proof Sibling hashes from the leaf to the root.
    /// @return amount What was paid, in wei.
    function claim(bytes32 entry, bytes32[] calldata proof) external returns (uint256 amount);

    /// @notice Pays an aligned block of 2^k entries at once. An account whose transfer fails is skipped, and so is
    /// an entry that was paid already.
    /// @param entries The block in tree order; a zero word stands for a padded position.
    /// @param proof Sibling hashes from the block's root to the root.
    /// @return amount What was paid, in wei.
    function claimSubtree(bytes32[] calldata entries, bytes32[] calldata proof) external returns (uint256 amount);

    /// @notice Like `claim`, but pays to the address that the entry's account signed for (EIP-712, EIP-1271 for
    /// contracts). The signature names the entry, so it works once.
    /// @dev Anybody can send a plain `claim` first; the tokens are then in the entry's account.
    /// @param entry The packed entry.
    /// @param proof Sibling hashes from the leaf to the root.
    /// @param to Where the tokens go.
    /// @param deadline The last second at which the signature is accepted.
    /// @param signature The account's signature over `Claim(bytes32 entry,address to,uint256 deadline)`.
    /// @return amount What was paid, in wei.
    function claimWithSig(
        bytes32 entry,
        bytes32[] calldata proof,
        address to,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 amount);

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @notice The shortest window, in seconds. Only a development chain (id 31337) may go below.
    function MIN_WINDOW() external view returns (uint64);

    /// @notice The longest window, in seconds.
    function MAX_WINDOW() external view returns (uint64);

    /// @notice The token that is paid.
    function TOKEN() external view returns (IERC20);

    /// @notice Says whose signatures a root needs.
    function VERIFIER_SET() external view returns (IVerifierSet);

    /// @notice How long a posted root waits, in seconds.
    function WINDOW() external view returns (uint64);

    /// @notice By how much the roots posted within one day (UTC) may raise the total, in gwei.
    function DAILY_CAP_GWEI() external view returns (uint64);

    /// @notice What is paid for a proof of fraud, in wei.
    function BOUNTY_WEI() external view returns (uint256);

    /// @notice What is left for bounties, in wei.
    function bondWei() external view returns (uint256);

    /// @notice `keccak256(chainid, this)`, the first half of what a leaf hashes.
    function domain() external view returns (bytes32);

    /// @notice The leaf of a packed entry.
    function leafOf(bytes32 entry) external view returns (bytes32);

    /// @notice The root that pays now, and its number; zeros before the first.
    function activeRoot() external view returns (uint64 batch, bytes32 root);

    /// @notice The root that waits, its number and when it becomes active; zeros if none waits.
    function waitingRoot() external view returns (uint64 batch, bytes32 root, uint64 activeAt);

    /// @notice The number that `postRoot` expects next.
    function nextBatch() external view returns (uint64);

    /// @notice How many posted roots were cancelled so far.
    function cancelled() external view returns (uint24);

    /// @notice What verifiers sign for the next root (EIP-712): `Root(uint64 batch,uint24 cancelled,bytes32 root,uint128
    /// totalGwei,bytes32 dataHash)`. As it counts the cancelled roots, a root that was cancelled needs new signatures.
    function rootDigest(uint64 batch, bytes32 root, uint128 totalGwei, bytes32 dataHash)
        external
        view
        returns (bytes32);

    /// @notice The total of the newest root that was not vetoed, in gwei.
    function totalGwei() external view returns (uint64);

    /// @notice Everything that was ever funded, in wei.
    function fundedWei() external view returns (uint256);

    /// @notice What was paid to `index` so far, in gwei.
    function claimedGwei(uint32 index) external view returns (uint64);
}
