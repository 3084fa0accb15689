"""A network whose chain is never asked, for tests that need its addresses and settings only."""

from __future__ import annotations

from anynode_contracts.networks import Network

NETWORK = Network(
    name="test",
    chain_id=31337,
    rpc_url="http://127.0.0.1:1",
    token=f"0x{901:040d}",
    registry=f"0x{902:040d}",
    escrow=f"0x{903:040d}",
    distributor=f"0x{904:040d}",
    stakes=f"0x{905:040d}",
    verifier_set=f"0x{906:040d}",
    deployed_block=0,
    held_back_limit_wei=0,
    window_s=60,
    daily_cap_gwei=10**16,
)
