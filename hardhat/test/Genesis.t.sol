// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {AnyToken} from "../../contracts/src/AnyToken.sol";
import {Faucet} from "../../contracts/src/Faucet.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice How the token begins, and how strangers on a development chain come by some.
contract GenesisTest is System {
    /*//////////////////////////////////////////////////////////////
                                 GENESIS
    //////////////////////////////////////////////////////////////*/

    /// @dev The supply among as many holders as there are shares.
    function allocate(uint256[3] memory shares) private view returns (AnyToken.Allocation[] memory genesis) {
        genesis = new AnyToken.Allocation[](shares.length + 1);
        uint256 leftWei = 1_000_000_000 ether;
        for (uint256 i; i < shares.length; ++i) {
            genesis[i] = AnyToken.Allocation(address(uint160(1000 + i)), bound(shares[i], 0, leftWei));
            leftWei -= genesis[i].amountWei;
        }
        genesis[shares.length] = AnyToken.Allocation(owner, leftWei);
    }

    function testFuzz_everybody_gets_what_was_said_and_no_more_exists(uint256[3] memory shares) public {
        AnyToken.Allocation[] memory genesis = allocate(shares);
        AnyToken token = new AnyToken(genesis);
        assertEq(token.totalSupply(), token.SUPPLY(), "supply");
        for (uint256 i; i < genesis.length; ++i) {
            assertEq(token.balanceOf(genesis[i].holder), genesis[i].amountWei, "allocation");
        }
    }

    function testFuzz_allocations_that_are_not_the_supply_are_refused(uint256[3] memory shares, uint256 off) public {
        AnyToken.Allocation[] memory genesis = allocate(shares);
        off = bound(off, 1, 1e30);
        genesis[3].amountWei += off;
        vm.expectRevert(abi.encodeWithSelector(AnyToken.NotTheSupply.selector, 1_000_000_000 ether + off));
        new AnyToken(genesis);
    }

    function test_nobody_has_nothing_of_a_token() public {
        vm.expectRevert(abi.encodeWithSelector(AnyToken.NotTheSupply.selector, 0));
        new AnyToken(new AnyToken.Allocation[](0));
    }

    /*//////////////////////////////////////////////////////////////
                                 FAUCET
    //////////////////////////////////////////////////////////////*/

    function newFaucet() private returns (AnyToken token, Faucet faucet) {
        AnyToken.Allocation[] memory genesis = new AnyToken.Allocation[](1);
        genesis[0] = AnyToken.Allocation(address(this), 1_000_000_000 ether);
        token = new AnyToken(genesis);
        faucet = new Faucet(token, 100 ether);
        token.transfer(address(faucet), 250 ether);
    }

    function testFuzz_faucet_is_for_development_chains(uint64 chain) public {
        vm.assume(chain != 31337 && chain != 0);
        vm.chainId(chain);
        vm.expectRevert(abi.encodeWithSelector(Faucet.NotADevelopmentChain.selector, chain));
        new Faucet(IERC20(address(this)), 1);
    }

    function testFuzz_faucet_gives_once_a_day(uint256 wait) public {
        vm.warp(1_800_000_000);
        (AnyToken token, Faucet faucet) = newFaucet();
        vm.expectEmit();
        emit Faucet.Given(stranger, 100 ether);
        faucet.give(stranger);
        assertEq(token.balanceOf(stranger), 100 ether, "given");
        uint256 again = block.timestamp + faucet.PAUSE();
        vm.warp(bound(wait, block.timestamp, again - 1));
        vm.expectRevert(abi.encodeWithSelector(Faucet.TooSoon.selector, stranger, again));
        faucet.give(stranger);
        faucet.give(owner);
        vm.warp(again);
        vm.expectRevert();
        faucet.give(stranger); // 50 are left
        token.transfer(address(faucet), 50 ether);
        faucet.give(stranger);
        assertEq(token.balanceOf(stranger), 200 ether, "given twice");
    }
}
