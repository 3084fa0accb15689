// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20, SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {isDevelopmentChain} from "./libraries/DevelopmentChain.sol";

/// @title Faucet
/// @notice Gives tokens to whoever asks, on development chains, so that anybody can try a job. It cannot be deployed
/// anywhere else. Whoever wants it to give puts tokens there.
contract Faucet {
    using SafeERC20 for IERC20;

    /*//////////////////////////////////////////////////////////////
                            EVENTS AND ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice `to` was given `AMOUNT_WEI`.
    event Given(address indexed to, uint256 amountWei);

    /// @notice The chain is no development chain.
    error NotADevelopmentChain(uint256 chainId);

    /// @notice `to` was given tokens already, and can have more at `againAt`.
    error TooSoon(address to, uint256 againAt);

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @notice How long a receiver waits until it can have more.
    uint256 public constant PAUSE = 1 days;

    /// @notice What is given.
    IERC20 public immutable TOKEN;

    /// @notice How much of it at once, in wei.
    uint256 public immutable AMOUNT_WEI;

    /// @notice When an account can have more; 0 if it never had any.
    mapping(address to => uint256 time) public nextAt;

    /// @param token What is given.
    /// @param amountWei How much of it at once.
    constructor(IERC20 token, uint256 amountWei) {
        if (!isDevelopmentChain()) revert NotADevelopmentChain(block.chainid);
        TOKEN = token;
        AMOUNT_WEI = amountWei;
    }

    /*//////////////////////////////////////////////////////////////
                                  GIVE
    //////////////////////////////////////////////////////////////*/

    /// @notice Gives `to` its tokens. Anybody may ask for anybody.
    function give(address to) external {
        if (block.timestamp < nextAt[to]) revert TooSoon(to, nextAt[to]);
        nextAt[to] = block.timestamp + PAUSE;
        emit Given(to, AMOUNT_WEI);
        TOKEN.safeTransfer(to, AMOUNT_WEI);
    }
}
