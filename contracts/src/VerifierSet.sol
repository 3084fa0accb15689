// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {IMinerRegistry} from "./interfaces/IMinerRegistry.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {IVerifierSet} from "./interfaces/IVerifierSet.sol";

/// @title VerifierSet
/// @notice See {IVerifierSet}, which is the specification.
contract VerifierSet is IVerifierSet, AccessManaged {
    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @dev Votes name the registry; OpenZeppelin's EIP712 knows only the domain of the contract itself.
    bytes32 private constant _DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /// @dev A vote for a record of a job.
    bytes32 private constant _RECORD_TYPEHASH =
        keccak256("Record(bytes32 job,uint64 height,uint64 view,string phase,bytes32 record)");

    /// @dev The domain's name and version.
    bytes32 private constant _NAME_HASH = keccak256("AnyNode");

    /// @dev See `_NAME_HASH`.
    bytes32 private constant _VERSION_HASH = keccak256("1");

    /// @dev The two phases as a vote spells them.
    bytes32 private constant _PREPARE_HASH = keccak256("prepare");

    /// @dev See `_PREPARE_HASH`.
    bytes32 private constant _CERTIFY_HASH = keccak256("certify");

    /// @inheritdoc IVerifierSet
    uint32 public constant MEMBERS_MAX = 256;

    /// @inheritdoc IVerifierSet
    IStakeManager public immutable STAKES;

    /// @inheritdoc IVerifierSet
    IMinerRegistry public immutable REGISTRY;

    /// @inheritdoc IVerifierSet
    uint128 public immutable BOND_WEI;

    /// @inheritdoc IVerifierSet
    uint32 public quorum;

    /// @inheritdoc IVerifierSet
    mapping(address verifier => Standing standing) public standingOf;

    /// @dev The set, in no particular order.
    address[] private _members;

    /// @dev In which block a proof was announced; 0 if it was not.
    mapping(bytes32 commitment => uint256 blockNumber) private _announcedIn;

    /// @param stakes Holds the bonds; it has been told of this contract.
    /// @param authority The AccessManager that knows the admin.
    /// @param bondWei What a verifier has at stake at least.
    constructor(IStakeManager stakes, address authority, uint128 bondWei) AccessManaged(authority) {
        if (address(stakes.VERIFIER_SET()) != address(this)) revert NotStakeManager();
        STAKES = stakes;
        REGISTRY = stakes.REGISTRY();
        BOND_WEI = bondWei;
    }

    /*//////////////////////////////////////////////////////////////
                                 MEMBERS
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IVerifierSet
    function add(address verifier, uint32 quorum_) external restricted {
        Standing standing = standingOf[verifier];
        if (standing == Standing.Member || standing == Standing.Proven) revert WrongStanding(verifier, standing);
        uint32 index = REGISTRY.indexOf(verifier);
        if (index == 0) revert NotRegistered(verifier);
        uint256 stakedWei = STAKES.stakeOf(index).activeWei;
        if (stakedWei < BOND_WEI) revert BondMissing(verifier, stakedWei, BOND_WEI);
        if (_members.length == MEMBERS_MAX) revert TooMany(MEMBERS_MAX);
        standingOf[verifier] = Standing.Member;
        _members.push(verifier);
        emit VerifierAdded(verifier);
        _setQuorum(quorum_);
    }

    /// @inheritdoc IVerifierSet
    function remove(address verifier, uint32 quorum_) external restricted {
        _leave(verifier, Standing.Left);
        _setQuorum(quorum_);
    }

    /// @inheritdoc IVerifierSet
    function resign() external {
        _leave(msg.sender, Standing.Left);
        _lowerQuorum();
    }

    /// @inheritdoc IVerifierSet
    function expel(address verifier) external {
        if (msg.sender != address(STAKES)) revert NotStakeManager();
        _leave(verifier, Standing.Left);
        _lowerQuorum();
    }

    /*//////////////////////////////////////////////////////////////
                                  PROOF
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IVerifierSet
    function announce(bytes32 commitment) external {
        if (_announcedIn[commitment] != 0) revert AlreadyAnnounced(commitment);
        _announcedIn[commitment] = block.number;
        emit ProofAnnounced(commitment);
    }

    /// @inheritdoc IVerifierSet
    function prove(Equivocation calldata proof, address finder, bytes32 salt) external returns (address verifier) {
        verifier = _signerOfBoth(proof);
        Standing standing = standingOf[verifier];
        if (standing == Standing.None || standing == Standing.Proven) revert WrongStanding(verifier, standing);
        if (finder != address(0)) {
            bytes32 commitment = commitmentOf(proof, finder, salt);
            uint256 announcedIn = _announcedIn[commitment];
            if (announcedIn == 0 || announcedIn >= block.number) revert NotAnnounced(commitment);
        }
        if (standing == Standing.Member) {
            _leave(verifier, Standing.Proven);
            _lowerQuorum();
        } else {
            standingOf[verifier] = Standing.Proven;
        }
        uint128 slashedWei = STAKES.slashProven(REGISTRY.indexOf(verifier), proof.job, finder);
        emit VerifierProven(verifier, proof.job, proof.records, slashedWei);
    }

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IVerifierSet
    function isMember(address verifier) external view returns (bool) {
        return standingOf[verifier] == Standing.Member;
    }

    /// @inheritdoc IVerifierSet
    function members() external view returns (address[] memory) {
        return _members;
    }

    /// @inheritdoc IVerifierSet
    function checkQuorum(bytes32 digest, Signature[] calldata signatures) external view {
        uint32 needed = quorum;
        uint256 length = signatures.length;
        if (needed == 0 || length < needed) revert QuorumMissing(length, needed);
        address former;
        for (uint256 i; i < length; ++i) {
            address verifier = signatures[i].verifier;
            if (verifier <= former) revert OutOfOrder(verifier);
            if (standingOf[verifier] != Standing.Member) revert WrongStanding(verifier, standingOf[verifier]);
            if (!SignatureChecker.isValidSignatureNowCalldata(verifier, digest, signatures[i].signature)) {
                revert InvalidSignature(verifier);
            }
            former = verifier;
        }
    }

    /// @inheritdoc IVerifierSet
    function recordDigest(bytes32 job, uint64 height, uint64 view_, Phase phase, bytes32 record)
        public
        view
        returns (bytes32)
    {
        // Computed, not stored: after a fork of the chain each side has its own.
        bytes32 separator = keccak256(
            abi.encode(_DOMAIN_TYPEHASH, _NAME_HASH, _VERSION_HASH, block.chainid, address(REGISTRY))
        );
        bytes32 phaseHash = phase == Phase.Prepare ? _PREPARE_HASH : _CERTIFY_HASH;
        bytes32 structHash = keccak256(abi.encode(_RECORD_TYPEHASH, job, height, view_, phaseHash, record));
        return MessageHashUtils.toTypedDataHash(separator, structHash);
    }

    /// @inheritdoc IVerifierSet
    function commitmentOf(Equivocation calldata proof, address finder, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), proof, finder, salt));
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev Whose key has signed both votes.
    function _signerOfBoth(Equivocation calldata proof) private view returns (address signer) {
        if (proof.records[0] == proof.records[1]) revert SameRecord();
        signer = _signerOf(proof, 0);
        if (signer == address(0) || signer != _signerOf(proof, 1)) revert InvalidProof();
    }

    /// @dev Whose key has signed one of the votes; zero for a signature of nobody.
    function _signerOf(Equivocation calldata proof, uint256 which) private view returns (address signer) {
        bytes32 digest = recordDigest(proof.job, proof.height, proof.view_, proof.phase, proof.records[which]);
        (signer,,) = ECDSA.tryRecoverCalldata(digest, proof.signatures[which]);
    }

    /// @dev Takes a member out of the set.
    function _leave(address verifier, Standing standing) private {
        if (standingOf[verifier] != Standing.Member) revert WrongStanding(verifier, standingOf[verifier]);
        standingOf[verifier] = standing;
        uint256 last = _members.length - 1;
        for (uint256 i; i < last; ++i) {
            if (_members[i] == verifier) {
                _members[i] = _members[last];
                break;
            }
        }
        _members.pop();
        if (standing == Standing.Left) emit VerifierLeft(verifier);
    }

    /// @dev One verifier fewer, and one signature: so that any two quorums share as many verifiers as before. It never
    /// falls to a half of who is left.
    function _lowerQuorum() private {
        uint32 count = uint32(_members.length);
        uint32 half = count / 2 + 1;
        uint32 lower = quorum - 1;
        quorum = lower > half ? lower : half;
        emit QuorumChanged(quorum, count);
    }

    /// @dev More than half, and at most all; of nobody, nothing is asked and nothing passes.
    function _setQuorum(uint32 quorum_) private {
        uint32 count = uint32(_members.length);
        if (uint256(quorum_) * 2 <= count || quorum_ > count) {
            if (count != 0) revert QuorumOutOfRange(quorum_, count);
        }
        quorum = quorum_;
        emit QuorumChanged(quorum_, count);
    }
}
