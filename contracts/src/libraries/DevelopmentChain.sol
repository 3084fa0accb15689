// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Whether this is a chain that somebody has started to try things out, where nothing has a price. Only there
/// may a root wait shorter than everywhere else, and tokens be given away.
function isDevelopmentChain() view returns (bool) {
    return block.chainid == 31337;
}
