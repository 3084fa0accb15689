// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMinerRegistry} from "./IMinerRegistry.sol";
import {IStakeManager} from "./IStakeManager.sol";

/// @title IVerifierSet
/// @notice The verifiers of a network: how many of them must sign, what each has at stake, and the proof that takes
/// both from one that has signed two records.
/// @dev A verifier is a registered node with its bond at stake. It belongs to the set from the admin's word on, until
/// it resigns, the admin takes it out, its stake falls below the bond, or it is proven to lie. The quorum is always
/// more than half of the set.
///
/// Verifiers sign the records of a job as EIP-712 structs `Record(bytes32 job,uint64 height,uint64 view,string
/// phase,bytes32 record)` in the domain `AnyNode`, version 1, of this chain and the miner registry. An honest one signs
/// at most one record per job, height, view and phase. So two signatures of one key over different records prove that
/// it lies: no network, contract or job but the one they were made for takes them, and one proof ends a key for ever.
/// Anybody may bring it, the liar too. So nobody gains what it costs: but for the finder's fee, it is burned.
///
/// A verifier can also be a contract, such as a Safe: it registers itself, and signs roots by EIP-1271. Its votes on
/// records would be no proof here, because what a contract accepts can change.
interface IVerifierSet {
    /// @notice How a key stands. `Left` can still be proven to have lied; `Proven` never comes back.
    enum Standing {
        None,
        Member,
        Left,
        Proven
    }

    /// @notice The two votes that a record passes.
    enum Phase {
        Prepare,
        Certify
    }

    /// @notice Two votes of one verifier.
    /// @param job The job.
    /// @param height Number of the record in the job's chain.
    /// @param view_ How often the duty to coordinate the job had moved on.
    /// @param phase Which of the two votes.
    /// @param records The hashes that were signed; they differ.
    /// @param signatures The signatures, in the order of `records`: 65 bytes r, s, v each.
    struct Equivocation {
        bytes32 job;
        uint64 height;
        uint64 view_;
        Phase phase;
        bytes32[2] records;
        bytes[2] signatures;
    }

    /// @notice One verifier's signature.
    /// @param verifier Its key's address, or the contract that it is.
    /// @param signature 65 bytes r, s, v of the key, or what the contract takes by EIP-1271.
    struct Signature {
        address verifier;
        bytes signature;
    }

    /*//////////////////////////////////////////////////////////////
                                  EVENTS
    //////////////////////////////////////////////////////////////*/

    /// @notice `verifier` belongs to the set.
    event VerifierAdded(address indexed verifier);

    /// @notice `verifier` has left the set: it resigned, was taken out, or lost its bond.
    event VerifierLeft(address indexed verifier);

    /// @notice `verifier` has signed two records of one height, view and phase of `job`; `slashedWei` was taken.
    event VerifierProven(address indexed verifier, bytes32 indexed job, bytes32[2] records, uint128 slashedWei);

    /// @notice So many of so many verifiers must sign from now on.
    event QuorumChanged(uint32 quorum, uint32 count);

    /// @notice Somebody holds a proof and will show it.
    event ProofAnnounced(bytes32 indexed commitment);

    /*//////////////////////////////////////////////////////////////
                                  ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice The key cannot be added, or has nothing to leave or to lose: this is how it stands.
    error WrongStanding(address verifier, Standing standing);

    /// @notice No registered node has this key.
    error NotRegistered(address verifier);

    /// @notice The verifier has less at stake than its bond.
    error BondMissing(address verifier, uint256 stakedWei, uint256 bondWei);

    /// @notice A quorum is more than half of the set, and at most all of it.
    error QuorumOutOfRange(uint32 quorum, uint32 count);

    /// @notice The set is full.
    error TooMany(uint32 membersMax);

    /// @notice Only the stake manager may do this.
    error NotStakeManager();

    /// @notice Two votes for one record prove nothing.
    error SameRecord();

    /// @notice The two signatures are not both valid and of one key.
    error InvalidProof();

    /// @notice The finder has not announced this proof in an earlier block.
    error NotAnnounced(bytes32 commitment);

    /// @notice The proof is announced already.
    error AlreadyAnnounced(bytes32 commitment);

    /// @notice Fewer have signed than must; where nobody is in the set, nothing passes.
    error QuorumMissing(uint256 signatures, uint32 quorum);

    /// @notice Signatures come in ascending order of their verifiers, each once; this one does not.
    error OutOfOrder(address verifier);

    /// @notice The signature is not one of `verifier` over this digest.
    error InvalidSignature(address verifier);

    /*//////////////////////////////////////////////////////////////
                                 MEMBERS
    //////////////////////////////////////////////////////////////*/

    /// @notice Adds a verifier, which has its bond at stake, and says how many must sign from now on. Only the admin.
    function add(address verifier, uint32 quorum) external;

    /// @notice Takes a verifier out and says how many must sign from now on. Only the admin.
    function remove(address verifier, uint32 quorum) external;

    /// @notice The caller leaves the set; its stake can be asked back then, and answers for its past until it is out.
    function resign() external;

    /// @notice Takes out a verifier whose stake has fallen below the bond. Only the stake manager.
    function expel(address verifier) external;

    /*//////////////////////////////////////////////////////////////
                                  PROOF
    //////////////////////////////////////////////////////////////*/

    /// @notice Says that the caller holds a proof, without showing it, so that nobody who sees it in the open can take
    /// the finder's fee.
    /// @param commitment What `commitmentOf` gives for the proof, the finder and a number that only the finder knows.
    function announce(bytes32 commitment) external;

    /// @notice Shows that a verifier has signed two records: it leaves the set for ever, and loses what it has at stake,
    /// which is burned. Anybody may send this, also against one that has left, and whether or not the job has a budget.
    /// @param proof The two votes.
    /// @param finder Who gets the finder's fee, and has announced the proof before; zero for nobody.
    /// @param salt The number in the announcement.
    /// @return verifier Who has lied.
    function prove(Equivocation calldata proof, address finder, bytes32 salt) external returns (address verifier);

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @notice How many verifiers there can be.
    function MEMBERS_MAX() external view returns (uint32);

    /// @notice What a verifier has at stake at least, in wei.
    function BOND_WEI() external view returns (uint128);

    /// @notice Holds the bonds.
    function STAKES() external view returns (IStakeManager);

    /// @notice Knows the nodes; verifiers sign records in its EIP-712 domain.
    function REGISTRY() external view returns (IMinerRegistry);

    /// @notice How `verifier` stands.
    function standingOf(address verifier) external view returns (Standing);

    /// @notice Whether `verifier` belongs to the set.
    function isMember(address verifier) external view returns (bool);

    /// @notice The set, in no particular order.
    function members() external view returns (address[] memory);

    /// @notice How many verifiers must sign.
    function quorum() external view returns (uint32);

    /// @notice Reverts unless a quorum of the set has signed `digest` (EIP-712 of who asks, so that a signature is good for
    /// one purpose, contract and chain).
    /// @param signatures In strictly ascending order of their verifiers, all of them members, all of them valid.
    function checkQuorum(bytes32 digest, Signature[] calldata signatures) external view;

    /// @notice What a verifier signs for a record (EIP-712).
    function recordDigest(bytes32 job, uint64 height, uint64 view_, Phase phase, bytes32 record)
        external
        view
        returns (bytes32);

    /// @notice What `announce` takes.
    function commitmentOf(Equivocation calldata proof, address finder, bytes32 salt) external view returns (bytes32);
}
