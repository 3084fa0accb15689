// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

import {MinerRegistry} from "../../contracts/src/MinerRegistry.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice A verifier that is a contract, as a Safe is: it takes the signature of its owner.
contract Safe is IERC1271 {
    address private immutable OWNER;

    constructor(address owner, MinerRegistry registry) {
        OWNER = owner;
        registry.register(owner);
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        (address signer,,) = ECDSA.tryRecoverCalldata(hash, signature);
        return signer == OWNER ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice A root is posted only with the signatures of a quorum, made for it and for nothing else.
contract RewardDistributorQuorumTest is System {
    function setUp() public {
        vm.warp(1_800_000_000);
        deploy(address(new PlainToken()));
    }

    function refuse(IVerifierSet.Signature[] memory signatures, bytes memory refusal) private {
        vm.prank(poster);
        vm.expectRevert(refusal);
        distributor.postRoot(1, "root", 0, DATA_HASH, signatures);
    }

    function signedBy(uint256 key, bytes32 digest) private pure returns (IVerifierSet.Signature memory) {
        return IVerifierSet.Signature(vm.addr(key), sign(key, digest));
    }

    /// @dev Leaves `count` verifiers in the set, of whom `quorum` must sign.
    function shrink(uint256 count, uint32 quorum) private {
        for (uint256 i = SIGNERS; i > count; --i) {
            signers.remove(vm.addr(signerKeys[i - 1]), i - 1 == count ? quorum : uint32((i - 1) / 2 + 1));
        }
    }

    /*//////////////////////////////////////////////////////////////
                              WHO HAS SIGNED
    //////////////////////////////////////////////////////////////*/

    function test_quorum_posts_a_root() public {
        post(1, "root", 0);
        (, bytes32 root,) = distributor.waitingRoot();
        assertEq(root, "root", "the root waits");
    }

    function test_all_of_the_set_may_sign() public {
        bytes32 digest = rootDigest(1, 0, "root", 0);
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](SIGNERS);
        for (uint256 i; i < SIGNERS; ++i) signatures[i] = signedBy(signerKeys[i], digest);
        vm.prank(poster);
        distributor.postRoot(1, "root", 0, DATA_HASH, signatures);
    }

    function test_one_verifier_alone_must_sign_too() public {
        shrink(1, 1);
        refuse(unsigned(), abi.encodeWithSelector(IVerifierSet.QuorumMissing.selector, 0, 1));
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](1);
        signatures[0] = signedBy(signerKeys[0], rootDigest(1, 0, "root", 0));
        vm.prank(poster);
        distributor.postRoot(1, "root", 0, DATA_HASH, signatures);
    }

    function test_one_signature_less_is_refused() public {
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](SIGNERS_NEEDED - 1);
        signatures[0] = signedBy(signerKeys[0], rootDigest(1, 0, "root", 0));
        refuse(
            signatures,
            abi.encodeWithSelector(IVerifierSet.QuorumMissing.selector, SIGNERS_NEEDED - 1, SIGNERS_NEEDED)
        );
    }

    function test_nothing_passes_an_empty_set() public {
        for (uint256 i; i < SIGNERS; ++i) {
            vm.prank(vm.addr(signerKeys[i]));
            signers.resign();
        }
        refuse(unsigned(), abi.encodeWithSelector(IVerifierSet.QuorumMissing.selector, 0, 1));
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](1);
        (address left, uint256 key) = (vm.addr(signerKeys[0]), signerKeys[0]);
        signatures[0] = signedBy(key, rootDigest(1, 0, "root", 0));
        refuse(
            signatures,
            abi.encodeWithSelector(IVerifierSet.WrongStanding.selector, left, IVerifierSet.Standing.Left)
        );
    }

    function test_nobody_signs_twice() public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        signatures[1] = signatures[0];
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.OutOfOrder.selector, signatures[0].verifier)
        );
    }

    function test_signatures_in_another_order_are_refused() public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        (signatures[0], signatures[1]) = (signatures[1], signatures[0]);
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.OutOfOrder.selector, signatures[1].verifier)
        );
    }

    function testFuzz_stranger_counts_for_nothing(uint256 key) public {
        key = bound(key, 1, 1 << 250);
        address outsider = vm.addr(key);
        vm.assume(!signers.isMember(outsider));
        bytes32 digest = rootDigest(1, 0, "root", 0);
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](SIGNERS_NEEDED);
        bool isFirst = outsider < vm.addr(signerKeys[0]);
        signatures[isFirst ? 0 : 1] = signedBy(key, digest);
        signatures[isFirst ? 1 : 0] = signedBy(signerKeys[0], digest);
        refuse(
            signatures,
            abi.encodeWithSelector(IVerifierSet.WrongStanding.selector, outsider, IVerifierSet.Standing.None)
        );
    }

    function test_verifier_that_has_left_counts_no_longer() public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        vm.prank(signatures[1].verifier);
        signers.resign();
        refuse(
            signatures,
            abi.encodeWithSelector(
                IVerifierSet.WrongStanding.selector, signatures[1].verifier, IVerifierSet.Standing.Left
            )
        );
    }

    function testFuzz_damaged_signature_is_refused(uint256 place) public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        place = bound(place, 0, 64);
        signatures[1].signature[place] ^= 0x01;
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.InvalidSignature.selector, signatures[1].verifier)
        );
    }

    function test_empty_signature_is_refused() public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        signatures[0].signature = "";
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.InvalidSignature.selector, signatures[0].verifier)
        );
    }

    /*//////////////////////////////////////////////////////////////
                               WHAT WAS SIGNED
    //////////////////////////////////////////////////////////////*/

    /// @dev Signatures over `digest`, which is not that of the root that is posted.
    function refuseDigest(bytes32 digest) private {
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](SIGNERS_NEEDED);
        for (uint256 i; i < SIGNERS_NEEDED; ++i) signatures[i] = signedBy(signerKeys[i], digest);
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.InvalidSignature.selector, signatures[0].verifier)
        );
    }

    function testFuzz_signature_is_for_one_chain(uint64 chainId) public {
        vm.assume(chainId != block.chainid);
        refuseDigest(rootDigest(chainId, address(distributor), 1, 0, "root", 0));
    }

    function testFuzz_signature_is_for_one_contract(address other) public {
        vm.assume(other != address(distributor));
        refuseDigest(rootDigest(block.chainid, other, 1, 0, "root", 0));
    }

    function testFuzz_signature_is_for_one_root(uint64 batch, uint24 cancelled, bytes32 root, uint64 total) public {
        vm.assume(batch != 1 || cancelled != 0 || root != "root" || total != 0);
        refuseDigest(rootDigest(batch, cancelled, root, total));
    }

    function test_digest_is_the_one_that_was_signed() public view {
        assertEq(distributor.rootDigest(1, "root", 7, DATA_HASH), rootDigest(1, 0, "root", 7), "digest");
    }

    /// @notice Otherwise the poster could bring a vetoed root again and again.
    function test_cancelled_root_needs_new_signatures() public {
        IVerifierSet.Signature[] memory signatures = signRoot(1, "root", 0);
        post(1, "root", 0);
        veto();
        assertEq(distributor.cancelled(), 1, "one was cancelled");
        refuse(
            signatures, abi.encodeWithSelector(IVerifierSet.InvalidSignature.selector, signatures[0].verifier)
        );
        post(1, "root", 0);
    }

    /*//////////////////////////////////////////////////////////////
                                CONTRACTS
    //////////////////////////////////////////////////////////////*/

    function test_safe_signs_as_its_owner_does() public {
        uint256 key = uint256(keccak256("owner of the Safe"));
        Safe safe = new Safe(vm.addr(key), MinerRegistry(address(signers.REGISTRY())));
        signers.add(address(safe), 3);
        shrink(1, 2);
        bytes32 digest = rootDigest(1, 0, "root", 0);
        IVerifierSet.Signature[] memory signatures = new IVerifierSet.Signature[](2);
        uint256 place = address(safe) < vm.addr(signerKeys[0]) ? 0 : 1;
        signatures[1 - place] = signedBy(signerKeys[0], digest);
        signatures[place] = IVerifierSet.Signature(address(safe), sign(signerKeys[1], digest));
        refuse(signatures, abi.encodeWithSelector(IVerifierSet.InvalidSignature.selector, address(safe)));
        signatures[place].signature = sign(key, digest);
        vm.prank(poster);
        distributor.postRoot(1, "root", 0, DATA_HASH, signatures);
    }
}
