"""A job is named by its whole id, for which nobody is asked, or by as many first digits as the verifier needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Anynode

from anynode.cli.job_ids import whole_job_id
from anynode.wallet import keystore
from anynode_contracts.errors import UserError
from served_jobs import served_jobs
from unasked_network import NETWORK

ONE, OTHER = "3f9a" + "0" * 60, "3f9b" + "1" * 60


def test_a_whole_id_is_asked_of_nobody() -> None:
    for written in (ONE, ONE.upper(), f"0x{ONE}"):
        assert whole_job_id(NETWORK, written) == ONE


def test_the_first_digits_will_do() -> None:
    with served_jobs([ONE, OTHER]) as url:
        network = NETWORK.model_copy(update={"api_url": url})
        assert [whole_job_id(network, given) for given in ("3f9a", "3F9B1", "0x3f9a0")] == [ONE, OTHER, ONE]
        with pytest.raises(UserError, match="2 jobs whose id begins with '3f9'"):
            whole_job_id(network, "3f9")
        with pytest.raises(UserError, match="no job whose id begins with 'ff'"):
            whole_job_id(network, "ff")


@pytest.mark.parametrize("wrong", ["", "0x", "x/../..", "3f9a…", ONE + "0"])
def test_what_is_no_id(wrong: str) -> None:
    with pytest.raises(UserError, match="is no job id"):
        whole_job_id(NETWORK, wrong)


@pytest.mark.parametrize(
    "command",
    [("join", "--job"), ("result", "folder", "--job"), ("earnings", "--job"), ("job", "refund"), ("job", "cancel")],
)
def test_every_command_takes_them(anynode: Anynode, home: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    keystore.store(home / "data" / "wallets" / "default.json", keystore.new_account(), "a password", scrypt_n=1024)
    with served_jobs([ONE, OTHER]) as url:
        NETWORK.model_copy(update={"api_url": url}).save(tmp_path / "network.toml")
        answer = anynode(*command, "ff", "--network", tmp_path / "network.toml")
    assert answer.code == 2 and "no job whose id begins with 'ff'" in answer.err
